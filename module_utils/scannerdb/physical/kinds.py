"""The kinds of findings about the archive and the physical backups."""

from __future__ import annotations

from ..finding_kinds import FindingKind, declare

declare(
    FindingKind(
        "archive.mode.off",
        "critical",
        "The server archives no WAL, so nothing after the last backup can be restored.",
        how="playbooks/deploy.yml sets it with scannerdb_backup_method; archive_mode needs a restart.",
    ),
    FindingKind(
        "archive.wal.failing",
        "critical",
        "WAL cannot be archived: nothing later can be restored, and pg_wal grows until its disk is full.",
        how="Read the server's log for what archive_command says: access, room, or the way to the repository.",
    ),
    FindingKind(
        "archive.wal.quiet",
        "warning",
        "No WAL came into the archive for a while although nothing failed: the newest minutes cannot be restored.",
        how="Let the heartbeat run (scannerdb_pgbackrest_heartbeat), and set archive_timeout.",
    ),
    FindingKind(
        "archive.segment.absent",
        "critical",
        "The server says that it archived a segment which is not in the repository.",
        how="Compare archive_command with the repository that the jobs look at: one of them names another place.",
    ),
    FindingKind(
        "archive.segment.duplicate",
        "critical",
        "A segment is in the archive twice with other contents: two clusters write to one stanza.",
        how="Find the second cluster and give it a stanza of its own; then make a full backup.",
    ),
    FindingKind(
        "archive.gap.open",
        "critical",
        "WAL is missing in the archive, and no backup was made since: nothing after the gap can be restored.",
        how="Make a backup now: playbooks/backup.yml. It closes the gap for all that comes after.",
    ),
    FindingKind(
        "archive.gap.closed",
        "info",
        "WAL is missing in the archive between two backups: moments in between cannot be restored.",
        how="Nothing brings it back. Look for the cause, such as archive-push-queue-max or a full repository.",
    ),
    FindingKind(
        "physical.stanza.missing",
        "critical",
        "There is no stanza where the backups should be.",
        how="playbooks/deploy.yml makes it; or the configuration names another repository than before.",
    ),
    FindingKind(
        "physical.stanza.foreign",
        "critical",
        "The stanza belongs to another cluster than this server.",
        how="After pg_upgrade run pgbackrest stanza-upgrade; for a new cluster choose another stanza.",
    ),
    FindingKind(
        "physical.repository.unreadable",
        "critical",
        "A repository of physical backups cannot be read.",
        how="Its message says why: rights, the way to its host, or another place than before.",
    ),
    FindingKind(
        "physical.key.wrong",
        "critical",
        "The passphrase does not open the repository: its backups cannot be restored with it.",
        how="Set the passphrase with which the repository was made (scannerdb_pgbackrest_cipher_password).",
    ),
    FindingKind(
        "physical.backup.missing",
        "critical",
        "There is no physical backup.",
        how="Make one: playbooks/backup.yml.",
    ),
    FindingKind(
        "physical.backup.broken",
        "critical",
        "A physical backup cannot be restored: a backup that it builds upon, or its WAL, is gone.",
        how="Make a full backup; then remove the broken one with pgbackrest expire --set.",
    ),
    FindingKind(
        "physical.backup.page_errors",
        "critical",
        "Pages in a physical backup did not match their checksum. It proves nothing, and no older one is removed.",
        how="Find the damaged tables with pg_amcheck, repair or restore them, then make a full backup.",
    ),
    FindingKind(
        "physical.backup.stale",
        "critical",
        "The newest physical backup is old.",
        how="Make one: playbooks/backup.yml. Then look why the scheduled one did not run.",
    ),
    FindingKind(
        "physical.clock.differs",
        "warning",
        "Clocks differ: times of backups, of WAL and of targets do not mean the same.",
        how="Set the wrong one right (timedatectl).",
    ),
)
