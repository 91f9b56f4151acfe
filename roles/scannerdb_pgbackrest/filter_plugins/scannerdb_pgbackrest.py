# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that make a cluster's section of pgBackRest's configuration, and see what stands in its way on the host."""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MARK = "# Written by the role scannerdb_pgbackrest"  # how every file of ours begins
GLOBAL = "global"
PASS, CIPHER, NONE, AES = "cipher-pass", "cipher-type", "none", "aes-256-cbc"
USABLE, NO_STANZA = (0, 2), (1, 3)  # codes of a repository: good, no backup; nothing there, no data of a stanza
HOLDERS = ("host", "s3-bucket", "azure-container", "gcs-bucket")
LONGEST = 300
CONTROL = re.compile(r"[\x00-\x1f]+")
OF_REPOSITORY = re.compile(r"repo\d+-")
OWN_FILE = "Give this cluster a file of its own: set scannerdb_pgbackrest_config to its path."
REPLACE = "To replace it, with a copy kept beside it, add -e scannerdb_pgbackrest_replace_config=true."
LEAVE = "To leave pgBackRest as it is, run deploy.yml with -e scannerdb_backup_method=dump."
Options = dict[str, str]


def section(repositories: Iterable[Mapping[str, Any]], common: Mapping[str, Any], password: str) -> Options:
    """The options of each repository, numbered; encryption is always spelled out."""
    found: Options = {}
    for number, own in enumerate(repositories, 1):
        options = {**common, **own}
        if PASS not in own and own.get(CIPHER) != NONE and password:
            options[PASS] = password
        options[CIPHER] = own.get(CIPHER) or (AES if options.get(PASS) else NONE)
        found.update({f"repo{number}-{name}": value for name, value in written(options).items()})
    return found


def written(options: Mapping[str, Any]) -> Options:
    """The values as pgBackRest writes them: its booleans are y and n."""
    return {name: ("y" if value else "n") if isinstance(value, bool) else str(value) for name, value in options.items()}


def wrong(options: Mapping[str, str], password: str) -> list[str]:
    """What pgBackRest would misread in these options, as sentences that show no value of theirs."""
    said = [
        f"The value of {name} holds a line break, or begins or ends with a space: pgBackRest would read another one."
        for name, value in options.items()
        if value != value.strip() or len(value.splitlines()) > 1 or "\0" in value
    ]
    for name, value in options.items():
        if not name.endswith(CIPHER):
            continue
        number, secret = name.partition("-")[0], options.get(name.replace(CIPHER, PASS), "")
        if value == NONE and secret:
            said.append(f"{number} has a {PASS} and {CIPHER} {NONE}: the passphrase would not be used. Leave one out.")
        if value != NONE and not secret:
            said.append(f"{number} has {CIPHER} {value} and no {PASS}. Set scannerdb_pgbackrest_cipher_password.")
    if password and password not in [value for name, value in options.items() if name.endswith(PASS)]:
        said.append("scannerdb_pgbackrest_cipher_password is set, and no repository would use it. Leave it out.")
    return said


def parsed(text: str) -> dict[str, Options]:
    """The sections of a configuration; options of a command, as in [main:backup], count to their cluster."""
    found: dict[str, Options] = {}
    name = GLOBAL
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].partition(":")[0]
            found.setdefault(name, {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(name, {})[key.strip()] = value.strip()
    return found


def among(paths: Iterable[str], places: Iterable[str]) -> list[str]:
    """Those of the paths that are one of these places, which may be patterns."""
    wanted = list(places)
    return sorted(path for path in paths if any(fnmatch.fnmatchcase(path, one) for one in wanted))


def layout(
    slurped: Iterable[Mapping[str, Any]],
    target: str,
    stanza: str,
    data: str,
    options: Mapping[str, str],
    replace: bool = False,
) -> dict[str, list[str]]:
    """What stands in the way of writing `target` (`refused`), and the files that go aside for it (`aside`)."""
    refused, aside = [], []
    for one in slurped:
        path, text = str(one["source"]), base64.b64decode(one["content"]).decode("utf-8", "replace")
        sections = parsed(text)
        said = _in_the_way(path, sections, path == target, stanza, text.startswith(MARK) or replace)
        said = said or _another_data(path, sections, stanza, data, replace)
        if not said and path != target:
            said = _leaking(path, sections.get(GLOBAL, {}), options) if stanza not in sections else ""
            aside += [path] if stanza in sections and not said else []
        refused += [said] if said else []
    return {"refused": refused, "aside": aside}


def _in_the_way(path: str, sections: Mapping[str, Options], is_target: bool, stanza: str, ours: bool) -> str:
    """Why a file that holds this cluster's section, or is to hold it, cannot be written or go aside."""
    others = sorted(set(sections) - {GLOBAL, stanza})
    if (is_target or stanza in sections) and others:
        return f"{path} is the configuration of {', '.join(others)}, too, and is not touched. {OWN_FILE} {LEAVE}"
    if not ours and ((is_target and any(sections.values())) or stanza in sections):
        return f"{path} was not written by deploy.yml, and configures {stanza}. {REPLACE} {LEAVE}"
    return ""


def _another_data(path: str, sections: Mapping[str, Options], stanza: str, data: str, replace: bool) -> str:
    there = sections.get(stanza, {}).get("pg1-path", data)
    if there == data or replace:
        return ""
    return (
        f"{path} is that of the cluster in {there}, and this one lies in {data}. Each cluster of a host needs a stanza "
        f"of its own: set scannerdb_pgbackrest_stanza. If this one has taken the other's place: {REPLACE[0].lower()}"
        f"{REPLACE[1:]}"
    )


def _leaking(path: str, shared: Mapping[str, str], options: Mapping[str, str]) -> str:
    """Options of repositories for all clusters, which would count for this one as well."""
    names = sorted(name for name in shared if OF_REPOSITORY.match(name) and name not in options)
    if not names:
        return ""
    return f"Section [{GLOBAL}] of {path} sets {', '.join(names)}, which would count for this cluster, too. {OWN_FILE}"


def place(repository: Mapping[str, Any]) -> str:
    """Where a repository lies, for a sentence."""
    where = next((str(repository[name]) for name in HOLDERS if repository.get(name)), "")
    return ":".join(filter(None, [where, str(repository.get("path", "/var/lib/pgbackrest"))]))


def foreign(settings: Iterable[Mapping[str, str]], own: Iterable[str]) -> list[str]:
    """How the server archives, or would, where that is not by a command of ours."""
    harmless = ("", "(disabled)", *own)
    return list(
        dict.fromkeys(
            f"{name} is {each[name]}"
            for each in settings
            for name in ("archive_command", "archive_library")
            if each.get(name, "") not in harmless
        )
    )


def states(answer: str) -> list[dict[str, Any]]:
    """Of each repository in the answer of `info`: whether the stanza is missing, and why it cannot be looked at.

    Messages in the answer may hold line ends, which is no JSON; a further line may hold bytes of a file.
    """
    found = []
    for stanza in json.loads(CONTROL.sub(" ", answer) or "[]"):
        for one in stanza["repo"]:
            code, message = one["status"]["code"], one["status"]["message"]
            said = "".join(letter for letter in message if letter.isprintable())[:LONGEST].rstrip(" .:")
            problem = "" if code in (*NO_STANZA, *USABLE) else f"repository {one['key']}: {said}"
            found.append({"missing": code in NO_STANZA, "problem": problem})
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters, by name."""
        return {
            "pgbackrest_section": section,
            "pgbackrest_written": written,
            "pgbackrest_wrong": wrong,
            "pgbackrest_among": among,
            "pgbackrest_layout": layout,
            "pgbackrest_place": place,
            "pgbackrest_foreign": foreign,
            "pgbackrest_states": states,
        }
