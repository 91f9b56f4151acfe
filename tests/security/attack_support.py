"""What the tests of attacks share."""

from __future__ import annotations

from scannerdb.connection import Options

from tests.security.attacks import MAINT, Canary

USERS = ["postgres", MAINT]


def options(canary: Canary, user: str) -> Options:
    login = canary.database.login
    return Options(unix_socket=login["login_unix_socket"], port=login["login_port"], user=user, db=canary.database.name)
