"""Options that several modules share, as Ansible argument specs (plain data: nothing here knows AnsibleModule)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InvalidInput
from .jsontext import DEEPEST
from .lockbudget import Budget
from .login import CHANNEL_BINDINGS, OPTION_OF, PASSED_ON, SSL_MODES, Options
from .window import Window, parse_window


def connection_arguments() -> dict[str, dict[str, Any]]:
    """The connection options, with community.postgresql's names."""
    return {
        "login_host": {"type": "str", "default": ""},
        "login_port": {"type": "int", "default": 5432},
        "login_user": {"type": "str", "default": ""},
        "login_password": {"type": "str", "default": "", "no_log": True},
        "login_unix_socket": {"type": "path", "default": ""},
        "login_db": {"type": "str", "default": "ollama_scanner"},
        "ssl_mode": {"type": "str", "default": "prefer", "choices": list(SSL_MODES)},
        "ca_cert": {"type": "path", "default": ""},
        "ssl_cert": {"type": "path", "default": ""},
        "ssl_key": {"type": "path", "default": ""},
        "channel_binding": {"type": "str", "default": "prefer", "choices": list(CHANNEL_BINDINGS)},
        "connect_params": {"type": "dict", "default": {}},
        "maintenance_db": {"type": "str", "default": "postgres"},
        "pg_bin_dir": {"type": "path", "default": ""},
    }


def run_arguments() -> dict[str, dict[str, Any]]:
    """Options of every module that does long or locking work."""
    return {
        "lock_wait_s": {"type": "int", "default": 0},
        "log_path": {"type": "path", "default": ""},
        "state_dir": {"type": "path", "default": ""},
    }


def budget_arguments() -> dict[str, dict[str, Any]]:
    """Options of every module that takes locks which could block a writer."""
    return {
        "lock_timeout_ms": {"type": "int", "default": 50},
        "lock_deadline_s": {"type": "int", "default": 300},
    }


def overlay_arguments() -> dict[str, dict[str, Any]]:
    """The option of every module that knows the contract."""
    return {"contract_overlay": {"type": "dict", "default": {}}}


def encryption_arguments() -> dict[str, dict[str, Any]]:
    """The option of every module that makes backup sets."""
    return {"age_recipients": {"type": "list", "elements": "str", "default": []}}


def identity_arguments() -> dict[str, dict[str, Any]]:
    """Options of every module that reads encrypted sets."""
    return {
        "identity": {"type": "path", "default": ""},
        "identity_key": {"type": "str", "default": "", "no_log": True},
    }


def offsite_arguments() -> dict[str, dict[str, Any]]:
    """Options of every module that reaches the copies of sets."""
    return {
        "offsite_remote": {"type": "str", "default": ""},
        "offsite_config": {"type": "path", "default": ""},
        "offsite_bandwidth": {"type": "str", "default": ""},
    }


def trust_arguments() -> dict[str, dict[str, Any]]:
    """The option of every module that asks who made a set."""
    return {"trusted_signers": {"type": "list", "elements": "str", "default": []}}


def retention_arguments() -> dict[str, dict[str, Any]]:
    """Options of every module that knows how long sets are kept."""
    given = {"days": 30, "min": 7, "daily": 0, "weekly": 0, "monthly": 0, "yearly": 0}
    return {f"retention_{name}": {"type": "int", "default": default} for name, default in given.items()}


# The largest value of a number, by the last word of the option's name. A larger one is a slip, and more than the
# server's own settings, or a clock, can hold.
LIMITS = {
    "port": 65535,
    "ms": 2_147_483_647,
    "s": 2_147_483,
    "h": 876_000,
    "hours": 876_000,
    "days": 36_500,
    "jobs": 1024,
    "nice": 19,
    "mb": 1 << 40,
    "rows": 1_000_000_000,
}
LARGEST = (1 << 63) - 1  # of any other: PostgreSQL's bigint


def ensure_within_bounds(params: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for an option whose number is out of its bounds, or whose text no program could be given."""
    for name, value in params.items():
        limit = LIMITS.get(name.rpartition("_")[2], LARGEST)
        least = 1 if name == "login_port" else 0 if limit != LARGEST else -LARGEST
        if isinstance(value, (int, float)) and not least <= value <= limit:  # NaN is in no bounds either
            raise InvalidInput(f"Option {name} is {str(value)[:40]}; it goes from {least} to {limit}.")
        _ensure_sane(name, value)


def _ensure_sane(name: str, value: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise InvalidInput(f"Option {name} is nested deeper than {DEEPEST} levels.")
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInput(f"Option {name} holds a NUL byte, which no name, path or password can have.")
        with_surrogates = any("\ud800" <= letter <= "\udfff" for letter in value)
        if with_surrogates:
            raise InvalidInput(f"Option {name} holds bytes that are no UTF-8.")
    elif isinstance(value, (int, float)) and not -LARGEST <= value <= LARGEST:
        raise InvalidInput(f"A number in option {name} is too large: {str(value)[:40]}.")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _ensure_sane(name, key, depth + 1)
            _ensure_sane(name, inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _ensure_sane(name, inner, depth + 1)


def passed_on(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The parameters of libpq that are given besides the options; raises `InvalidInput` for those that are ours."""
    for name, value in params.items():
        if name in OPTION_OF:
            raise InvalidInput(
                f"Parameter {name} in connect_params has an option of its own.", f"Set {OPTION_OF[name]}."
            )
        if name not in PASSED_ON:
            raise InvalidInput(
                f"Parameter {name} in connect_params is not passed on: it is fixed, secret or unknown.",
                f"Those that are: {', '.join(sorted(PASSED_ON))}.",
            )
        if not str(value).isprintable():
            raise InvalidInput(f"Parameter {name} in connect_params holds a line end or a control character.")
    return tuple(sorted((name, str(value)) for name, value in params.items()))


def options_from(params: Mapping[str, Any]) -> Options:
    """The connection options out of a module's parameters, all of which are held against their bounds first."""
    ensure_within_bounds(params)
    return Options(
        host=params["login_host"] or "",
        port=params["login_port"],
        user=params["login_user"] or "",
        password=params["login_password"] or "",
        unix_socket=params["login_unix_socket"] or "",
        db=params["login_db"],
        ssl_mode=params["ssl_mode"],
        ca_cert=params["ca_cert"] or "",
        ssl_cert=params["ssl_cert"] or "",
        ssl_key=params["ssl_key"] or "",
        channel_binding=params["channel_binding"],
        connect_params=passed_on(params["connect_params"] or {}),
        maintenance_db=params["maintenance_db"],
        pg_bin_dir=params["pg_bin_dir"] or "",
    )


def budget_from(params: Mapping[str, Any]) -> Budget:
    """The lock budget out of a module's parameters."""
    return Budget(timeout_ms=params["lock_timeout_ms"], deadline_s=float(params["lock_deadline_s"]))


def window_arguments() -> dict[str, dict[str, Any]]:
    """The option of every module that keeps to the site's window."""
    return {"window": {"type": "raw", "default": ""}}


def window_from(params: Mapping[str, Any]) -> Window | None:
    """The window out of a module's parameter of that name."""
    return parse_window(params["window"])
