"""What the controller knows and refuses: state in memory, changed only through the checks that AWX makes."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from typing import Any

from tests.integration.awx import rules
from tests.integration.awx.rules import Refused
from tests.integration.awx.shapes import SHAPES, UNIFIED, Field

Item = dict[str, Any]
KINDS: dict[str, Any] = {"str": str, "int": int, "bool": bool, "dict": dict}
BASE = "/api/v2/"
PROMPTS = {  # what a schedule or a node may decide, by the word of the template's `ask_…_on_launch`
    "inventory": "inventory",
    "limit": "limit",
    "job_type": "job_type",
    "diff_mode": "diff_mode",
    "verbosity": "verbosity",
    "job_tags": "tags",
    "skip_tags": "skip_tags",
    "scm_branch": "scm_branch",
}


class Controller:
    """What a controller knows. `token` opens it; `requests` has method, path and body of everything it was asked."""

    def __init__(self, token: str, page_size: int = 4) -> None:
        self.token = token
        self.page_size = page_size  # small, so that lists come in pages
        self.url = ""
        self.requests: list[tuple[str, str, Any]] = []
        self.items: dict[str, dict[int, Item]] = {name: {} for name in SHAPES}
        self.links: dict[tuple[int, str], list[int]] = {}
        self.surveys: dict[int, Item] = {}
        self.role_ids: dict[tuple[int, str], int] = {}
        self.role_members: dict[tuple[int, str], list[int]] = {}
        self.playbooks: dict[int, list[str]] = {}  # of the projects, from their repositories
        self.revisions: dict[int, str] = {}  # the commit that each project was last synchronised to
        self.active: set[int] = set()  # what has a job that runs
        self.user = 0  # whose token it is
        self._ids = itertools.count(1)

    # --- for tests

    def add(self, resource: str, **fields: Any) -> Item:
        """Put something there as a stranger would, through the same checks."""
        return self.create(resource, fields)

    def named(self, resource: str) -> dict[str, Item]:
        """The items of a resource by their names."""
        key = "identifier" if resource == "workflow_job_template_nodes" else SHAPES[resource].unique[0]
        return {item[key]: item for item in self.items[resource].values()}

    def linked(self, item: Item, what: str) -> list[str]:
        """The names of what is associated with an item."""
        members = SHAPES[self._resource_of(item["id"])].lists[what]
        key = "identifier" if members == "workflow_job_template_nodes" else "name"
        return [self.items[members][one][key] for one in self.links.get((item["id"], what), [])]

    def writes(self) -> list[tuple[str, str, Any]]:
        """The requests that were not only reading."""
        return [request for request in self.requests if request[0] != "GET"]

    def grant(self, item: Item, role: str, holders: str, holder: int) -> None:
        """Give a team or a user a role, as a hand does."""
        put(self.role_members.setdefault((self.role_ids[item["id"], f"{role}_role"], holders), []), {"id": holder})

    def rights(self) -> dict[tuple[int, str], list[int]]:
        """Who has which role on which item: numbers of teams and users."""
        return {
            (item, role.removesuffix("_role")): [
                one for holders in ("teams", "users") for one in self.role_members.get((number, holders), [])
            ]
            for (item, role), number in self.role_ids.items()
        }

    # --- the API's verbs on items

    def create(self, resource: str, body: Item) -> Item:
        shape = SHAPES[resource]
        item: Item = {name: field.default for name, field in shape.fields.items()}
        for name, field in shape.fields.items():
            if field.required and body.get(name) in (None, ""):
                raise Refused({name: ["This field is required."]})
        item["id"] = next(self._ids)
        self._take(resource, item, body)
        self.items[resource][item["id"]] = item
        for role in shape.roles:
            self.role_ids[item["id"], f"{role}_role"] = next(self._ids)
        return item

    def change(self, resource: str, item: Item, body: Item) -> None:
        changed = dict(item)
        self._take(resource, changed, body)
        item.update(changed)

    def delete(self, resource: str, item: Item) -> None:
        """Delete with everything that cannot live without it; other references become empty."""
        self._check_delete(resource, item)
        if resource == "groups":  # AWX takes along what is in no other one
            for host in list(self.links.get((item["id"], "hosts"), [])):
                if sum(host in members for (_, what), members in self.links.items() if what == "hosts") == 1:
                    self.delete("hosts", self.items["hosts"][host])
        self.items[resource].pop(item["id"], None)
        for key in [key for key in self.links if key[0] == item["id"]]:
            del self.links[key]
        for members in self.links.values():
            if item["id"] in members:
                members.remove(item["id"])
        for other, shape in SHAPES.items():
            for dependent in list(self.items[other].values()):
                for name in shape.fields:
                    if self._refers(shape.fields[name]) and dependent.get(name) == item["id"]:
                        if name in shape.dies_with:
                            self.delete(other, dependent)
                        else:
                            dependent[name] = None

    def _check_delete(self, resource: str, item: Item) -> None:
        if resource == "credential_types" and self._users_of(item["id"], "credentials", "credential_type"):
            raise Refused({"detail": "Credential types that are in use cannot be deleted."}, 403)
        if item["id"] in self.active:
            raise Refused({"error": "Resource is being used by running jobs.", "active_jobs": []}, 409)

    def _take(self, resource: str, item: Item, body: Item) -> None:
        """Check a body against the shape and put it into the item."""
        shape = SHAPES[resource]
        body = {name: value for name, value in body.items() if name not in shape.read_only}
        if unknown := set(body) - set(shape.fields):
            raise Refused({name: ["AWX has no such field."] for name in unknown})
        for name, value in body.items():
            item[name] = self._checked(name, shape.fields[name], value)
        if len(str(item.get("name") or "")) > rules.LONGEST_NAME:
            raise Refused({"name": [f"Ensure this field has no more than {rules.LONGEST_NAME} characters."]})
        if "variables" in item:
            rules.check_variables(item)
        if resource == "job_templates":
            item["organization"] = self.items["projects"].get(item["project"], {}).get("organization")
        for other in self.items[resource].values():
            if other["id"] != item["id"] and all(other.get(key) == item.get(key) for key in shape.unique):
                raise Refused({"__all__": [f"{shape.type} with this {' and '.join(shape.unique)} already exists."]})
        check = getattr(self, f"_check_{resource}", None)
        if check:
            check(item)

    def _checked(self, name: str, field: Field, value: Any) -> Any:
        if self._refers(field):
            if value in (None, ""):
                return None
            if not isinstance(value, int) or self._find(field.kind, value) is None:
                raise Refused({name: [f'Invalid pk "{value}" - object does not exist.']})
            return value
        if value is None and (field.default is None or field.kind == "str"):
            return field.default  # AWX stores an empty text for null
        if not isinstance(value, KINDS[field.kind]) or (field.kind == "int" and isinstance(value, bool)):
            raise Refused({name: [f"Expected {field.kind}, got {value!r}."]})
        if field.choices and value not in field.choices:
            raise Refused({name: [f'"{value}" is not a valid choice.']})
        return value

    # --- rules of single resources

    def _check_projects(self, item: Item) -> None:
        """A project is synchronised when it is made, or when what it is made from has changed."""
        if item["scm_type"] != "git":
            return
        if not item["scm_url"]:
            raise Refused({"scm_url": ["SCM URL is required."]})
        old = self.items["projects"].get(item["id"], {})
        if any(item[name] != old.get(name) for name in ("scm_url", "scm_branch", "scm_refspec")):
            self.synchronise(item)

    def synchronise(self, item: Item) -> None:
        """Read the project's repository, really; a failed update leaves what an earlier one brought."""
        where, branch = item["scm_url"].removeprefix("file://"), item["scm_branch"] or "HEAD"
        git = ["git", f"--git-dir={where}"]
        revision = subprocess.run([*git, "rev-parse", branch], capture_output=True, text=True, check=False)
        listing = [*git, "ls-tree", "-r", "--name-only", branch]
        listed = subprocess.run(listing, capture_output=True, text=True, check=False)
        item["status"] = "failed" if listed.returncode else "successful"
        if not listed.returncode:
            self.playbooks[item["id"]] = [name for name in listed.stdout.splitlines() if name.endswith(".yml")]
            self.revisions[item["id"]] = revision.stdout.strip()

    def _check_groups(self, item: Item) -> None:
        if item["name"] in ("all", "_meta"):
            raise Refused({"name": ["Invalid group name."]})

    def _check_job_templates(self, item: Item) -> None:
        if item["inventory"] is None and not item["ask_inventory_on_launch"]:
            raise Refused({"inventory": ["Job Template must provide 'inventory' or allow prompting for it."]})
        if item["project"] is None:
            raise Refused({"project": ["Job Templates must have a project assigned."]})
        if item["playbook"] not in self.playbooks.get(item["project"], []):
            raise Refused({"playbook": ["Playbook not found for project."]})
        if item["extra_vars"]:
            json.loads(item["extra_vars"])

    def _check_credential_types(self, item: Item) -> None:
        rules.check_credential_type(item)
        old = self.items["credential_types"].get(item["id"])
        if old and old["inputs"] != item["inputs"] and self._users_of(item["id"], "credentials", "credential_type"):
            text = "Modifications to inputs are not allowed for credential types that are in use"
            raise Refused({"detail": text}, 403)

    def _check_credentials(self, item: Item) -> None:
        old = self.items["credentials"].get(item["id"], {"inputs": {}})
        rules.check_credential(item, self.items["credential_types"][item["credential_type"]])
        item["inputs"] = rules.keep_hidden(item["inputs"], old["inputs"])

    def _check_notification_templates(self, item: Item) -> None:
        old = self.items["notification_templates"].get(item["id"], {"notification_configuration": {}})
        rules.check_notification(item)
        hidden = rules.keep_hidden(item["notification_configuration"], old["notification_configuration"])
        item["notification_configuration"] = hidden

    def _check_schedules(self, item: Item) -> None:
        rules.check_rrule(item["rrule"])
        self._check_launch(item)

    def _check_workflow_job_template_nodes(self, item: Item) -> None:
        self._check_launch(item)

    def _check_launch(self, item: Item) -> None:
        """What a schedule or a workflow launches must be able to start without anybody, and with what is asked for."""
        template = self._find("unified_job_templates", item["unified_job_template"]) or {}
        for name, ask in PROMPTS.items():
            if item.get(name) not in (None, "") and not template.get(f"ask_{ask}_on_launch"):
                raise Refused({name: ["Field is not configured to prompt on launch."]})
        questions = self.surveys.get(template.get("id", 0), {}).get("spec", [])
        questions = questions if template.get("survey_enabled") else []
        allowed = {question["variable"] for question in questions}
        refused = set(item["extra_data"]) - allowed
        if refused and not template.get("ask_variables_on_launch"):
            raise Refused({"extra_data": [f"Variables {', '.join(sorted(refused))} are not allowed on launch."]})
        if errors := rules.check_answers(questions, item["extra_data"]):
            raise Refused({"variables_needed_to_start": errors})

    # --- looking

    def listing(self, resource: str, query: list[tuple[str, str]]) -> list[Item]:
        """The items of a resource that a query selects; an unknown filter is an error, as it is in AWX."""
        every = [item for name in self._members(resource) for item in self.items[name].values()]
        filters = [(key, value) for key, value in query if key not in ("page", "page_size", "order_by")]
        either = [(key[4:], value) for key, value in filters if key.startswith("or__")]
        both = [(key, value) for key, value in filters if not key.startswith("or__")]
        found = [item for item in every if all(self._matches(resource, item, *one) for one in both)]
        return [item for item in found if not either or any(self._matches(resource, item, *one) for one in either)]

    def at(self, resource: str, address: str) -> Item | None:
        """The item of a number, or of a unique name: its own, its credential type's and kind, its organization's."""
        if address.isdigit():
            return self._find(resource, int(address))
        parts = [part.replace("[+]", "+") for part in re.split(r"(?<!\[)\+\+?(?!\])", address)]
        for item in self.items[resource].values():
            kind = self.items["credential_types"].get(item.get("credential_type", 0))
            typed = [kind["name"], kind["kind"]] if kind else []
            if parts == [item["name"], *typed, self._name(item.get("organization"))]:
                return item
        return None

    def _matches(self, resource: str, item: Item, key: str, value: str) -> bool:
        if key == "type":
            return SHAPES[self._resource_of(item["id"])].type == value
        if key.endswith("__startswith"):
            return str(item[key.removesuffix("__startswith")]).startswith(value)
        name, _, rest = key.partition("__")
        if (
            name not in item
            and name != "organization"
            and name not in SHAPES.get(resource, SHAPES["job_templates"]).fields
        ):
            raise Refused({"detail": f"{resource} has no field named '{name}'"})
        found = item.get(name)
        if rest:
            kind = SHAPES[self._resource_of(item["id"])].fields.get(name, Field("organizations")).kind
            target = self._find(kind, found) if found else None
            return target is not None and self._matches(kind, target, rest, value)
        return str(found) == value

    def shown(self, item: Item) -> Item:
        """An item as the API returns it."""
        resource = self._resource_of(item["id"])
        shape = SHAPES[resource]
        url = f"{BASE}{resource}/{item['id']}/"
        related = {name: f"{url}{name}/" for name in shape.lists}
        summary: Item = {}
        for name, field in shape.fields.items():
            if self._refers(field) and item[name]:
                target = self._find(field.kind, item[name]) or {}
                related[name] = f"{BASE}{self._resource_of(item[name])}/{item[name]}/"
                summary[name] = {"id": item[name], "name": target.get("name", "")}
        if item.get("organization") and "organization" not in summary:  # a job template has that of its project
            summary["organization"] = {"id": item["organization"], "name": self._name(item["organization"])}
        if "survey_enabled" in shape.fields:
            related["survey_spec"] = f"{url}survey_spec/"
        if resource == "projects":
            related["update"] = f"{url}update/"
        if shape.roles:
            roles = {f"{role}_role": self.role_ids[item["id"], f"{role}_role"] for role in shape.roles}
            summary["object_roles"] = {name: {"id": one, "name": name} for name, one in roles.items()}
        return {
            **self._hidden(resource, item),
            "type": shape.type,
            "url": url,
            "related": related,
            "summary_fields": summary,
        }

    def _hidden(self, resource: str, item: Item) -> Item:
        shown = dict(item)
        if resource == "credentials":
            secret = rules.secrets_of(self.items["credential_types"][item["credential_type"]])
            shown["inputs"] = rules.hide(item["inputs"], secret)
        if resource == "notification_templates":
            _, secret_name = rules.NOTIFICATION[item["notification_type"]]
            shown["notification_configuration"] = rules.hide(item["notification_configuration"], {secret_name})
        if resource == "credential_types":
            shown["managed"] = False
        if resource == "projects":
            shown["scm_revision"] = self.revisions.get(item["id"], "")
        if resource == "workflow_job_template_nodes":
            kinds = ("success_nodes", "failure_nodes", "always_nodes")
            shown.update({kind: self.links.get((item["id"], kind), []) for kind in kinds})
        return shown

    # --- related lists

    def associate(self, item: Item, what: str, body: Item) -> None:
        members = SHAPES[self._resource_of(item["id"])].lists[what]
        if self._find(members, body.get("id")) is None:
            raise Refused({"detail": f"{members} {body.get('id')} does not exist."})
        if what.endswith("_nodes"):
            self._check_node_link(item, what, body)
        put(self.links.setdefault((item["id"], what), []), body)

    def _check_node_link(self, item: Item, what: str, body: Item) -> None:
        """Nodes of one workflow, one kind of link between two of them, and no circle."""
        child = self.items["workflow_job_template_nodes"][body["id"]]
        if child["workflow_job_template"] != item["workflow_job_template"] or child["id"] == item["id"]:
            raise Refused({"Error": "Relationship not allowed."})
        kinds = [kind for kind in ("success_nodes", "failure_nodes", "always_nodes") if kind != what]
        if any(child["id"] in self.links.get((item["id"], kind), []) for kind in kinds):
            raise Refused({"Error": "Relationship not allowed."})
        if item["id"] in self._below(child["id"]):
            raise Refused({"Error": "Cycle detected."})

    def _below(self, node: int) -> set[int]:
        kinds = ("success_nodes", "failure_nodes", "always_nodes")
        children = {one for kind in kinds for one in self.links.get((node, kind), [])}
        return children.union(*(self._below(child) for child in children)) if children else set()

    # --- small things

    def _refers(self, field: Field) -> bool:
        return field.kind not in KINDS

    def _members(self, resource: str) -> tuple[str, ...]:
        return UNIFIED if resource == "unified_job_templates" else (resource,)

    def _find(self, resource: str, item_id: Any) -> Item | None:
        return next(
            (self.items[name][item_id] for name in self._members(resource) if item_id in self.items[name]), None
        )

    def _name(self, organization: int | None) -> str:
        return str(self.items["organizations"].get(organization or 0, {}).get("name", ""))

    def _resource_of(self, item_id: int) -> str:
        return next(name for name, items in self.items.items() if item_id in items)

    def _users_of(self, item_id: int, resource: str, name: str) -> list[Item]:
        return [item for item in self.items[resource].values() if item[name] == item_id]


def put(members: list[int], body: Item) -> None:
    """Associate, or disassociate: what AWX's related lists do with a POST."""
    if body.get("disassociate"):
        members.remove(body["id"])
    elif body["id"] not in members:
        members.append(body["id"])
