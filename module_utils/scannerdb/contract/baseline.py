"""The Ollama Scanner database as it should be: one declaration that drives deploy, check and fix.

A site adds to it with `scannerdb_contract_overlay` (overlay.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from .model import NOW, SEQUENCE, UNSPECIFIED, Column, Contract, ForeignKey, Grant, Index, RowTrigger, Table, View

TIMESTAMP = "timestamp with time zone"
ANY_TIMESTAMP = (TIMESTAMP, "timestamp without time zone")
KEYS = ("bigint",)  # what a key that came to its end was moved to
TABLE_PRIVILEGES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
CREATOR_PRIVILEGES = TABLE_PRIVILEGES | {"REFERENCES"}


def _columns(columns: Iterable[Column]) -> dict[str, Column]:
    return {column.name: column for column in columns}


def _id() -> Column:
    return Column("id", "integer", nullable=False, default=SEQUENCE, accepts=KEYS)


def _endpoint_id() -> Column:
    return Column("endpoint_id", "integer", nullable=False, accepts=KEYS)


_OF_ENDPOINT = ForeignKey(("endpoint_id",), "endpoints")

ENDPOINTS = Table(
    "endpoints",
    _columns(
        [
            _id(),
            Column("ip", "text", nullable=False),
            Column("port", "integer", nullable=False, default="11434"),
            Column("scan_date", TIMESTAMP, default=NOW),
            Column("verified", "integer", default="0"),
            Column("verification_date", TIMESTAMP),
            Column("is_honeypot", "boolean", default="false"),
            Column("honeypot_reason", "text"),
            Column("is_active", "boolean", default="true"),
            Column("inactive_reason", "text"),
            Column("last_check_date", TIMESTAMP),
        ]
    ),
    primary_key=("id",),
    uniques=(("ip", "port"),),
    indexes=(
        Index(("ip",), unless_unique_leads=True),
        Index(("verified",)),
        Index(("is_honeypot",)),
        Index(("is_active",)),
        Index(("verified", "is_honeypot")),
        Index(("verified", "is_active")),
    ),
    row_triggers=(RowTrigger("scan_date", ("ip", "port")), RowTrigger("verification_date", ("verified",))),
)

VERIFIED_ENDPOINTS = Table(
    "verified_endpoints",
    _columns([_id(), _endpoint_id(), Column("verification_date", TIMESTAMP, default=NOW)]),
    primary_key=("id",),
    uniques=(("endpoint_id",),),
    foreign_keys=(_OF_ENDPOINT,),
)

MODELS = Table(
    "models",
    _columns(
        [
            _id(),
            _endpoint_id(),
            Column("name", "text", nullable=False),
            Column("parameter_size", "text"),
            Column("quantization_level", "text"),
            Column("size_mb", "numeric(12,2)"),
        ]
    ),
    primary_key=("id",),
    uniques=(("endpoint_id", "name"),),
    foreign_keys=(_OF_ENDPOINT,),
    indexes=(Index(("name",)), Index(("endpoint_id",), unless_unique_leads=True)),
)

_MEASURES = (
    "avg_response_time",
    "tokens_per_second",
    "first_token_latency",
    "throughput_tokens",
    "throughput_time",
    "context_500_tps",
    "context_1000_tps",
    "context_2000_tps",
)

BENCHMARK_RESULTS = Table(
    "benchmark_results",
    _columns(
        [
            _id(),
            _endpoint_id(),
            Column("model_id", "integer", accepts=KEYS),
            Column("test_date", TIMESTAMP, default=NOW),
            *(Column(name, "numeric(10,4)") for name in _MEASURES),
            Column("max_concurrent_requests", "integer"),
            Column("concurrency_success_rate", "numeric(5,4)"),
            Column("concurrency_avg_time", "numeric(10,4)"),
            Column("success_rate", "numeric(5,4)"),
        ]
    ),
    primary_key=("id",),
    foreign_keys=(_OF_ENDPOINT, ForeignKey(("model_id",), "models")),
    indexes=(Index(("endpoint_id",)), Index(("model_id",)), Index(("test_date",))),
)

METADATA = Table(
    "metadata",
    _columns(
        [
            Column("key", "text", nullable=False),
            Column("value", "text", default=UNSPECIFIED),
            Column("updated_at", TIMESTAMP, default=UNSPECIFIED, accepts=ANY_TIMESTAMP),
        ]
    ),
    primary_key=("key",),
)

SCHEMA_VERSION = Table(
    "schema_version",
    _columns(
        [
            _id(),
            Column("version", "text", nullable=False),
            Column("applied_at", TIMESTAMP, default=UNSPECIFIED, accepts=ANY_TIMESTAMP),
        ]
    ),
    primary_key=("id",),
)

SERVERS = View(
    "servers",
    ("id", "ip", "port", "scan_date"),
    frozenset(
        {
            ("endpoints", "id"),
            ("endpoints", "ip"),
            ("endpoints", "port"),
            ("endpoints", "scan_date"),
            ("verified_endpoints", "endpoint_id"),
        }
    ),
)


def application_grants(role: str, tables: Iterable[str], creates: bool = True) -> tuple[Grant, ...]:
    """What the application may do: read and write every demanded table, and reference it where it makes its own."""
    return tuple(Grant(role, name, CREATOR_PRIVILEGES if creates else TABLE_PRIVILEGES) for name in tables)


def baseline(application_role: str = "ollama", creates: bool = True) -> Contract:
    """The contract without any site's additions."""
    tables = (ENDPOINTS, VERIFIED_ENDPOINTS, MODELS, BENCHMARK_RESULTS, METADATA, SCHEMA_VERSION)
    grants = application_grants(application_role, [table.name for table in tables], creates)
    return Contract(
        tables={table.name: table for table in tables},
        view=SERVERS,
        grants=(*grants, Grant(application_role, SERVERS.name, TABLE_PRIVILEGES)),
        application_role=application_role,
        application_creates=creates,
    )
