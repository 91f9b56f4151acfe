"""What somebody wrote into a set's record proves nothing to any job, and what he took out of it is not forgotten."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
from pathlib import Path

import pytest
from scannerdb.errors import FixRefused
from scannerdb.jobs.backup_info import backup_info
from scannerdb.jobs.doctor import Places, doctor
from scannerdb.jobs.fix import Safety, fix
from scannerdb.jobs.status import status
from scannerdb.runs import utc_now
from scannerdb.sets.catalogue import BackupSet, adopt_all, list_sets, load_set, newest_verified, point_latest
from scannerdb.sets.known_hashes import recorded_hash
from scannerdb.sets.names import format_time
from scannerdb.sets.options import BackupInfoOptions
from scannerdb.sets.proofs import MOST_SIGNATURES, remember, signature_of
from scannerdb.sets.signing import Trust, public_key, signed
from scannerdb.sets.verification_log import Verification, append_record
from scannerdb.status.options import StatusOptions

from tests.integration.support import options, run_backup, run_restore
from tests.servers import Database


@pytest.fixture
def made(field_db: Database, tmp_path: Path) -> Path:
    """A set that passed a comparison of its checksums, and nothing more."""
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s"), "verify_level": "checksum"}
    return Path(run_backup(options(field_db), **words)["backup"]["path"])


def seen(item: BackupSet, level: str = "restore", ok: bool = True, at: str = "") -> Verification:
    problems = () if ok else ("a row is missing",)
    return Verification(level, ok, at or format_time(utc_now()), item.manifest_sha256, 1.0, problems)


def judged(path: Path, *signers: str) -> str:
    """What a set is worth here."""
    return load_set(path, Trust(str(path.parents[1] / "s"), signers)).verified


def test_no_job_believes_a_proof_that_somebody_wrote(field_db: Database, made: Path, tmp_path: Path) -> None:
    folder, state = str(tmp_path / "b"), str(tmp_path / "s")
    append_record(made, seen(load_set(made)))
    append_record(made, seen(load_set(made)), signed(b"of something else", str(tmp_path / "other"), "x").decode())
    (item,) = list_sets(folder, field_db.name, Trust(state)).sets
    assert item.verified == "checksum"
    safety = Safety(backup_dir=folder, trust=Trust(state))
    with pytest.raises(FixRefused, match="verified by 'read' or better; nothing was changed"):
        fix(options(field_db), safety=safety, state_dir=state)
    places = {"backup_dir": folder, "state_dir": state, "log_dir": str(tmp_path), "config_dir": str(tmp_path / "c")}
    told = status(options(field_db), StatusOptions(host="h", **places), ask_server=False)
    assert (told["backups"]["verified"], told["backups"]["proven"]) == ("checksum", "")
    assert backup_info(BackupInfoOptions(backup_dir=folder, state_dir=state))["proven"] == {}
    again = run_backup(options(field_db), backup_dir=folder, state_dir=state, verify_level="none")
    assert again["proven"] == {}
    why = {one["name"]: one["why"] for one in again["retention"]}
    assert "proven" not in why[made.name]
    assert "restore" not in why[made.name]


def test_a_failure_stays_though_its_line_is_gone(field_db: Database, made: Path, tmp_path: Path) -> None:
    item, state = load_set(made), str(tmp_path / "s")
    remember(made, item.name, seen(item, "restore", ok=False), state)
    (made / "verification.jsonl").unlink()
    append_record(made, seen(item))
    now = load_set(made, Trust(state))
    assert (now.verified, now.standing.problems) == ("none", ("a row is missing",))
    places = Places(str(tmp_path / "b"), state, str(tmp_path), str(tmp_path), str(tmp_path / "c"))
    causes = {one["cause"]: one["message"] for one in doctor(options(field_db), places)["diagnoses"]}
    assert causes["backups"] == f"Damaged: {made.name}."


def test_the_word_of_another_host_counts_where_its_key_is_known(made: Path, tmp_path: Path) -> None:
    item, other = load_set(made), str(tmp_path / "other")
    done = seen(item)
    append_record(made, done, signature_of(done, other))
    assert judged(made) == "checksum"
    assert judged(made, public_key(other)) == "restore"
    line = json.loads((made / "verification.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    more = dataclasses.replace(done, at="2099-01-01T00:00:00Z")  # the signature of other words
    append_record(made, more, line["signature"])
    assert load_set(made, Trust(str(tmp_path / "s"), (public_key(other),))).standing.at == done.at


def test_this_hosts_key_outlasts_its_history(made: Path, tmp_path: Path) -> None:
    item, state = load_set(made), str(tmp_path / "s")
    remember(made, item.name, seen(item, "read"), state)
    Path(state, "verification.jsonl").unlink()
    assert judged(made) == "read"
    Path(state, "signing_key.pub").unlink()
    assert judged(made) == "none"


def test_a_record_full_of_signatures_costs_little(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = load_set(made)
    asked: list[bytes] = []
    for number in range(3 * MOST_SIGNATURES):
        append_record(made, seen(item, at=f"2030-01-01T00:00:{number:02d}Z"), "no signature at all")
    monkeypatch.setattr("scannerdb.sets.proofs.signer_of", lambda *words: asked.append(words[0]))
    assert judged(made, "ssh-ed25519 AAAA") == "checksum"
    assert len(asked) == MOST_SIGNATURES
    (made / "verification.jsonl").write_text("[" * (3 << 20), encoding="ascii")
    assert load_set(made, Trust(str(tmp_path / "s"))).damaged, "what cannot be read may have been a failure"


def test_an_upgrade_takes_no_proof_away_and_then_closes_the_door(
    field_db: Database, made: Path, tmp_path: Path
) -> None:
    """As an earlier release left it: nothing in the state but the manifest's hash, no signatures in the record."""
    item, state = load_set(made), tmp_path / "s"
    (state / "verification.jsonl").unlink()
    (made / "verification.jsonl").unlink()
    hashed = state / "manifests" / f"{made.name}.sha256"
    hashed.write_text(json.dumps({"set": made.name, "manifest_sha256": item.manifest_sha256}), encoding="ascii")
    append_record(made, seen(item, "read"))
    assert judged(made) == "read"
    stranger = shutil.copytree(made, made.parent / "elsewhere" / made.name)
    assert load_set(stranger, Trust(str(tmp_path / "new"))).verified == "none", "another host made no set of that name"
    sets = list_sets(made.parent, None, Trust(str(state))).sets
    assert newest_verified(sets, "read", datetime.timedelta(hours=1), utc_now()), "fix has its way back as before"
    again = run_backup(options(field_db), backup_dir=str(made.parent), state_dir=str(state), verify_level="none")
    assert judged(made) == "read", "the next backup has taken it over"
    assert again["proven"] == {}
    append_record(made, seen(item))
    assert judged(made) == "read"
    assert recorded_hash(str(state), made.name) == item.manifest_sha256
    assert adopt_all(made.parent, field_db.name, str(state)) == []


def test_a_link_that_was_turned_back_is_said(field_db: Database, made: Path, tmp_path: Path) -> None:
    """An older set is one of ours, so nothing refuses it; but whoever restores `latest` should know."""
    login = options(field_db)
    words = {"backup_dir": str(tmp_path / "b"), "state_dir": str(tmp_path / "s")}
    newer = run_backup(login, **words)["backup"]["name"]
    more = {"source": "latest", "confirm": field_db.name, "check_mode": True}
    assert not [said for said in run_restore(login, **words, **more)["warnings"] if "is newer" in said]
    point_latest(tmp_path / "b", made.name)
    said = f"latest.backup leads to {made.name}, though {newer} is newer: name the one that you want."
    assert said in run_restore(login, **words, **more)["warnings"]
