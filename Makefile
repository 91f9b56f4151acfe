# One obvious word per job; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help venv venv-dev demo demo-db demo-stop demo-clean system test test-pristine lint lint-python lint-types lint-yaml lint-ansible unit integration molecule molecule-clean generate docs bench wheelhouse release
MAKEFLAGS += --no-print-directory

export SCALE ?= 1
DEMO_STAMP := .venv/.requirements-demo
DEV_STAMP := .venv/.requirements-dev
# Tests run side by side, each worker with servers of its own; fewer than the cores on a large machine.
WORKERS ?= --numprocesses auto --maxprocesses 4 --dist worksteal
TESTS ?= tests/integration tests/security
PG ?=
RELEASE ?= bookworm
# The scripts in .venv/bin name the folder they were made in; modules survive when the checkout moves.
PY := .venv/bin/python
ANY_PY = $(firstword $(wildcard $(PY)) python3)

# ansible.cfg is ignored in a folder that everybody may write to, unless it is named.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Ansible insists on UTF-8, and on a locale that exists.
ifeq ($(shell uname),Linux)
export LC_ALL := C.UTF-8
endif

# A virtual environment whose Python is gone is made again.
ifneq ($(shell test -x $(PY) && echo works),works)
$(shell rm -f $(DEMO_STAMP) $(DEV_STAMP))
endif

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | while IFS='|' read -r word text; do printf '%-20s %s\n' "$$word" "$$text"; done

venv: $(DEMO_STAMP) ## make .venv with what the bundle and its demo need
venv-dev: $(DEV_STAMP) ## the same, with what the tests need

$(DEMO_STAMP): requirements-demo.txt requirements.txt
	@demo/make-venv requirements-demo.txt
	@touch $@

$(DEV_STAMP): requirements-dev.txt requirements-demo.txt requirements.txt
	@demo/make-venv requirements-dev.txt
	@touch $(DEMO_STAMP) $@

# The home folder may be read-only.
demo: export ANSIBLE_HOME := $(CURDIR)/.demo/ansible
demo: export ANSIBLE_REMOTE_TEMP := $(CURDIR)/.demo/ansible/tmp
demo: demo-db ## start and damage a database, then maintain it (SCALE=n multiplies its rows)
	@$(PY) -m ansible playbook maintain.yml -i inventories/demo

demo-db: $(DEMO_STAMP) ## only start the server and fill it with a damaged database
	@$(PY) -m demo fill --scale "$$SCALE"

demo-stop: ## stop the demo's server; its data stays
	@$(ANY_PY) -m demo stop

demo-clean: ## remove the demo's server and everything it made
	@$(ANY_PY) -m demo clean

# What a database host without internet needs, for the Python and machine it has: make wheelhouse HOST_PYTHON=3.12 HOST_MACHINE=aarch64
HOST_PYTHON ?= 3.11
HOST_MACHINE ?= x86_64
wheelhouse: $(DEMO_STAMP) ## fill wheelhouse/ with the libraries of scheduled jobs, for hosts without internet
	@$(PY) -m pip download --quiet --dest wheelhouse --only-binary=:all: --python-version $(HOST_PYTHON) \
		$(foreach v,2014 _2_28 _2_34,--platform manylinux$(v)_$(HOST_MACHINE)) pip $$($(PY) -m demo.wheelhouse $(HOST_PYTHON))

system: ## install the system packages that tests need, as root on Debian; tests/system/needs.py lists them
	@$(ANY_PY) -m tests.system install

test: ## everything that must pass; ends with what could not be tested here
	@$(ANY_PY) -m tests.system begin
	@for step in system lint unit integration molecule; do begun=$$(date +%s); \
		$(MAKE) $$step || exit 1; echo "make $$step took $$(($$(date +%s) - begun)) s."; done
	@$(ANY_PY) -m tests.system report

test-pristine: ## make demo and make test on a bare Debian in a folder (PRISTINE="demo unit", RELEASE=trixie)
	@python3 -m tests.pristine --release $(RELEASE) $(PRISTINE)

lint: lint-python lint-types lint-yaml lint-ansible ## style, types, YAML and Ansible

lint-python: $(DEV_STAMP)
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

lint-types: $(DEV_STAMP)
	@$(PY) -m mypy
	@$(PY) -m mypy --explicit-package-bases demo bench tests/conftest.py tests/servers.py tests/needs.py tests/fetched_servers.py tests/next_server.py \
		tests/pristine.py tests/system tests/containers

lint-yaml: $(DEV_STAMP)
	@$(PY) -m yamllint --strict .

lint-ansible: $(DEV_STAMP)
	@$(PY) -m ansiblelint

unit: system $(DEV_STAMP) ## tests without a server
	@$(PY) -m pytest $(WORKERS) $(ORDER) tests/unit

integration: system $(DEV_STAMP) ## tests on real PostgreSQL servers (TESTS="FILE …" for some, PG=17 for one version)
	@$(PY) -m tests.fetched_servers
	@$(PY) -m pytest $(WORKERS) $(ORDER) --durations=20 --durations-min=1 $(PG:%=--pg %) $(TESTS)

molecule: system $(DEV_STAMP) ## tests in containers (SCENARIO=name for one); says so where there can be none
	@$(PY) -m tests.containers run $(SCENARIO)

molecule-clean: $(DEV_STAMP) ## remove the containers and images of these tests
	@$(PY) -m tests.containers clean

generate: $(DEV_STAMP) ## rewrite all that is made from what the code declares: roles' defaults and argument specs, reference pages
	@$(PY) docs/reference.py

docs: generate # the folder of that name would count as made

bench: $(DEV_STAMP) ## measure every speed claim beside its peer (SCALE=20 for a million endpoints)
	@$(PY) -m bench --scale "$$SCALE"

release: $(DEV_STAMP) ## put the fragments of changelog.d into CHANGELOG.md, commit and tag (VERSION=1.2.3)
	@test -n "$(VERSION)" || { echo "Say which: make release VERSION=1.2.3"; exit 1; }
	@test -z "$$(git status --porcelain)" || { echo "Commit or put aside what is changed first."; exit 1; }
	@$(PY) -m towncrier build --yes --version $(VERSION)
	@sed -i -E 's/^(version|BUNDLE_VERSION) = ".*"/\1 = "$(VERSION)"/' pyproject.toml module_utils/scannerdb/sets/manifest.py
	@git add --all && git commit --quiet --message "Release $(VERSION)" && git tag --annotate v$(VERSION) --message "Release $(VERSION)"
	@echo "Tagged v$(VERSION). Push it: git push --follow-tags"
