"""Fixtures: real servers of every version that is here, and fresh databases on them.

    def test_something(field_db):            # runs on PostgreSQL 15, 17 and 18; on 19 where tests/needs.py says so
        assert field_db.value("SELECT count(*) FROM endpoints") == field_db.damage.endpoints

`--pg 17` (repeatable) runs on that version only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests import needs, servers
from tests.system.needs import NEXT

if TYPE_CHECKING:
    from demo.server import Server


# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("scannerdb", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("scannerdb")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pg", action="append", type=int, help="test on this PostgreSQL version only; repeatable")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what the machine must have; see tests/needs.py")
    config.addinivalue_line("markers", "pg(*versions, always=False): the versions of the server that this is tested on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that uses a server once per PostgreSQL version."""
    if "server" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--pg") or (*servers.VERSIONS, NEXT)
        parameters = [pytest.param(version, id=f"pg{version}") for version in wanted]
        metafunc.parametrize("server", parameters, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the versions that a test is not meant for: that is a choice, and nothing is missing."""
    asked = config.getoption("--pg") or ()
    left = [item for item in items if not needs.fits(item, asked)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in set(left)]


def pytest_runtest_setup(item: pytest.Item) -> None:
    needs.check(item)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Remember what was left out for want of something, for the end of `make test`."""
    needs.note(terminalreporter.stats.get("skipped", []))


@pytest.fixture(scope="session")
def pool() -> Iterator[servers.Pool]:
    """All servers of this run, started lazily."""
    made = servers.Pool()
    yield made
    made.close()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, pool: servers.Pool) -> Server:
    """A running server; the test runs once per version."""
    if servers.find_bin_dir(request.param) is None:
        needs.lack(f"postgresql-{request.param}")
    return pool.server(request.param)


@pytest.fixture
def make_database(pool: servers.Pool, server: Server) -> Iterator[servers.Databases]:
    """A factory: make_database(), make_database('we"ird; drop'), make_database(filled=True)."""
    factory = servers.Databases(pool, server)
    yield factory
    factory.clean()


@pytest.fixture
def database(request: pytest.FixtureRequest, make_database: servers.Databases) -> servers.Database:
    """A fresh, empty database; parametrize it indirectly to choose its name."""
    return make_database(getattr(request, "param", None))


@pytest.fixture
def field_db(request: pytest.FixtureRequest, make_database: servers.Databases) -> servers.Database:
    """A fresh, small copy of the field's database; parametrize it indirectly to choose its name."""
    return make_database(getattr(request, "param", None), filled=True)


@pytest.fixture
def factory_once(request: pytest.FixtureRequest, pool: servers.Pool) -> Iterator[servers.Databases]:
    """As make_database, on one version only, where it decides nothing: PostgreSQL 17, or what --pg asks for."""
    factory = servers.Databases(pool, pool.server(servers.asked_version(request.config, 17)))
    yield factory
    factory.clean()


@pytest.fixture
def database_once(factory_once: servers.Databases) -> servers.Database:
    """A fresh, empty database on one version."""
    return factory_once()


@pytest.fixture
def field_once(factory_once: servers.Databases) -> servers.Database:
    """A fresh, small copy of the field's database on one version."""
    return factory_once(filled=True)
