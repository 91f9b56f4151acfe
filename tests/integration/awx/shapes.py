"""What AWX's API accepts and returns, as a table: fields, relations, uniqueness, and what a deletion takes along.

Written from the API's documentation and from what the collection awx.awx 24.6.1 sends and reads. The table is stricter
than AWX in one thing: AWX ignores a field that it does not know, and here it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Field:
    """A writable field. `kind` is str, int, bool, dict, or the name of the resource that it refers to."""

    kind: str
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Shape:
    """A resource: its fields, lists of related objects, object roles, and names that must be its own."""

    type: str
    fields: Mapping[str, Field]
    lists: Mapping[str, str] = field(default_factory=dict)  # related list: the resource of its members
    roles: tuple[str, ...] = ()
    unique: tuple[str, ...] = ("name",)
    dies_with: tuple[str, ...] = ()  # fields whose object takes this one along when it is deleted
    read_only: tuple[str, ...] = ()  # accepted and ignored, as AWX does with fields that it sets itself


def text(default: str = "", **more: Any) -> Field:
    return Field("str", default, **more)


def number(default: int = 0, **more: Any) -> Field:
    return Field("int", default, **more)


def flag(default: bool = False) -> Field:
    return Field("bool", default)


def to(resource: str, **more: Any) -> Field:
    return Field(resource, None, **more)


NAMED = {"name": text(required=True), "description": text()}
NOTIFICATIONS = {f"notification_templates_{when}": "notification_templates" for when in ("started", "success", "error")}
ASKED = {
    f"ask_{what}_on_launch": flag() for what in ("limit", "variables", "tags", "skip_tags", "scm_branch", "labels")
}
LAUNCH = {  # what may be decided at a launch
    "extra_data": Field("dict", {}),
    "inventory": to("inventories"),
    "limit": text(),
    "job_type": text(choices=("", "run", "check")),
    "diff_mode": Field("bool"),
    "verbosity": Field("int"),
    "job_tags": text(),
    "skip_tags": text(),
    "scm_branch": text(),
}

SHAPES: dict[str, Shape] = {
    "organizations": Shape(
        "organization",
        {**NAMED, "max_hosts": number(), "default_environment": to("execution_environments")},
        {**NOTIFICATIONS, "instance_groups": "instance_groups", "galaxy_credentials": "credentials"},
        ("admin", "execute", "project_admin", "inventory_admin", "auditor", "member", "read", "approval"),
    ),
    "instance_groups": Shape("instance_group", {"name": text(required=True)}, roles=("admin", "use", "read")),
    "users": Shape("user", {"username": text(required=True)}, unique=("username",)),
    "teams": Shape(
        "team",
        {**NAMED, "organization": to("organizations", required=True)},
        roles=("admin", "member", "read"),
        unique=("name", "organization"),
        dies_with=("organization",),
    ),
    "applications": Shape(
        "application",
        {
            **NAMED,
            "organization": to("organizations", required=True),
            "client_type": text(required=True, choices=("confidential", "public")),
            "authorization_grant_type": text(required=True, choices=("authorization-code", "password")),
            "redirect_uris": text(),
        },
        unique=("name", "organization"),
        dies_with=("organization",),
    ),
    "credential_types": Shape(
        "credential_type",
        {
            **NAMED,
            "kind": text(required=True, choices=("cloud", "net")),
            "inputs": Field("dict", {}),
            "injectors": Field("dict", {}),
        },
        unique=("name", "kind"),
        read_only=("managed",),
    ),
    "credentials": Shape(
        "credential",
        {
            **NAMED,
            "organization": to("organizations"),
            "credential_type": to("credential_types", required=True),
            "inputs": Field("dict", {}),
        },
        roles=("admin", "use", "read"),
        unique=("name", "organization", "credential_type"),
        dies_with=("organization",),
    ),
    "execution_environments": Shape(
        "execution_environment",
        {
            **NAMED,
            "image": text(required=True),
            "organization": to("organizations"),
            "credential": to("credentials"),
            "pull": text(choices=("", "always", "missing", "never")),
        },
        dies_with=("organization",),
    ),
    "notification_templates": Shape(
        "notification_template",
        {
            **NAMED,
            "organization": to("organizations", required=True),
            "notification_type": text(required=True, choices=("email", "slack", "webhook")),
            "notification_configuration": Field("dict", {}),
            "messages": Field("dict", {}),
        },
        unique=("name", "organization"),
        dies_with=("organization",),
    ),
    "projects": Shape(
        "project",
        {
            **NAMED,
            "organization": to("organizations"),
            "scm_type": text(choices=("", "git", "svn", "insights", "archive")),
            "scm_url": text(),
            "scm_branch": text(),
            "scm_refspec": text(),
            "scm_clean": flag(),
            "scm_delete_on_update": flag(),
            "scm_track_submodules": flag(),
            "scm_update_on_launch": flag(),
            "scm_update_cache_timeout": number(),
            "allow_override": flag(),
            "timeout": number(),
            "credential": to("credentials"),
            "default_environment": to("execution_environments"),
        },
        {**NOTIFICATIONS, "schedules": "schedules"},
        ("admin", "use", "update", "read"),
        unique=("name", "organization"),
    ),
    "inventories": Shape(
        "inventory",
        {
            **NAMED,
            "organization": to("organizations", required=True),
            "kind": text(choices=("", "smart", "constructed")),
            "host_filter": Field("str"),
            "variables": text(),
            "prevent_instance_group_fallback": flag(),
        },
        {"instance_groups": "instance_groups", "hosts": "hosts", "groups": "groups"},
        ("admin", "update", "adhoc", "use", "read"),
        unique=("name", "organization"),
        dies_with=("organization",),
    ),
    "inventory_sources": Shape(
        "inventory_source",
        {
            **NAMED,
            "inventory": to("inventories", required=True),
            "source": text(required=True, choices=("file", "scm", "controller")),
            "source_project": to("projects"),
            "source_path": text(),
            "overwrite": flag(),
            "overwrite_vars": flag(),
            "update_on_launch": flag(),
            "update_cache_timeout": number(),
            "execution_environment": to("execution_environments"),
        },
        {**NOTIFICATIONS, "credentials": "credentials"},
        unique=("name", "inventory"),
        dies_with=("inventory", "source_project"),
    ),
    "hosts": Shape(
        "host",
        {
            **NAMED,
            "inventory": to("inventories", required=True),
            "variables": text(),
            "enabled": flag(True),
            "instance_id": text(),
        },
        unique=("name", "inventory"),
        dies_with=("inventory",),
        read_only=("has_inventory_sources",),
    ),
    "groups": Shape(
        "group",
        {**NAMED, "inventory": to("inventories", required=True), "variables": text()},
        {"hosts": "hosts", "children": "groups"},
        unique=("name", "inventory"),
        dies_with=("inventory",),
    ),
    "job_templates": Shape(
        "job_template",
        {
            **NAMED,
            **ASKED,
            **{f"ask_{what}_on_launch": flag() for what in ("diff_mode", "job_type", "verbosity", "inventory")},
            **{f"ask_{what}_on_launch": flag() for what in ("credential", "execution_environment", "forks", "timeout")},
            **{f"ask_{what}_on_launch": flag() for what in ("instance_groups", "job_slice_count")},
            "job_type": text("run", choices=("run", "check")),
            "inventory": to("inventories"),
            "project": to("projects"),
            "playbook": text(),
            "scm_branch": text(),
            "forks": number(),
            "limit": text(),
            "verbosity": number(choices=(0, 1, 2, 3, 4, 5)),
            "extra_vars": text(),
            "job_tags": text(),
            "skip_tags": text(),
            "timeout": number(),
            "use_fact_cache": flag(),
            "execution_environment": to("execution_environments"),
            "survey_enabled": flag(),
            "become_enabled": flag(),
            "diff_mode": flag(),
            "force_handlers": flag(),
            "start_at_task": text(),
            "host_config_key": text(),
            "webhook_service": text(choices=("", "github", "gitlab")),
            "allow_simultaneous": flag(),
            "job_slice_count": number(1),
            "prevent_instance_group_fallback": flag(),
        },
        {
            **NOTIFICATIONS,
            "credentials": "credentials",
            "labels": "labels",
            "instance_groups": "instance_groups",
            "schedules": "schedules",
        },
        ("admin", "execute", "read"),
        unique=("name", "organization"),
        read_only=("organization",),
    ),
    "workflow_job_templates": Shape(
        "workflow_job_template",
        {
            **NAMED,
            **ASKED,
            "ask_inventory_on_launch": flag(),
            "organization": to("organizations"),
            "inventory": to("inventories"),
            "extra_vars": text(),
            "limit": text(),
            "scm_branch": text(),
            "job_tags": text(),
            "skip_tags": text(),
            "survey_enabled": flag(),
            "allow_simultaneous": flag(),
        },
        {**NOTIFICATIONS, "notification_templates_approvals": "notification_templates", "schedules": "schedules"},
        ("admin", "execute", "read", "approval"),
        unique=("name", "organization"),
    ),
    "workflow_job_template_nodes": Shape(
        "workflow_job_template_node",
        {
            **LAUNCH,
            "identifier": text(required=True),
            "workflow_job_template": to("workflow_job_templates", required=True),
            "unified_job_template": to("unified_job_templates"),
            "execution_environment": to("execution_environments"),
            "all_parents_must_converge": flag(),
        },
        {
            **{f"{when}_nodes": "workflow_job_template_nodes" for when in ("success", "failure", "always")},
            "credentials": "credentials",
        },
        unique=("identifier", "workflow_job_template"),
        dies_with=("workflow_job_template",),
    ),
    "schedules": Shape(
        "schedule",
        {
            **NAMED,
            **LAUNCH,
            "rrule": text(required=True),
            "enabled": flag(True),
            "unified_job_template": to("unified_job_templates", required=True),
        },
        {"credentials": "credentials", "instance_groups": "instance_groups"},
        unique=("name", "unified_job_template"),
        dies_with=("unified_job_template",),
    ),
}
UNIFIED = ("projects", "job_templates", "workflow_job_templates", "inventory_sources")
