"""Findings about the server around the database, and about who may do what."""

from __future__ import annotations

from .entry import CheckEntry

SERVER = (
    CheckEntry(
        "server.checksums.off",
        "info",
        "Data checksums are off: a page that the disk damaged is not noticed.",
        how="pg_checksums --enable, with the server stopped.",
    ),
    CheckEntry(
        "server.checksums.failed",
        "critical",
        "Pages did not match their checksum: the disk or its controller damages data.",
        how="Back up what can be read, move to other hardware, restore the last verified backup where rows are lost.",
    ),
    CheckEntry(
        "server.collation.mismatch",
        "warning",
        "The system's collation changed under the database: indexes over text may miss rows.",
        how="REINDEX every index over text, then ALTER DATABASE … REFRESH COLLATION VERSION.",
        lock="SHARE UPDATE EXCLUSIVE with CONCURRENTLY",
    ),
    CheckEntry(
        "server.extension.outdated",
        "info",
        "An extension is older than the installed package.",
        how="ALTER EXTENSION … UPDATE; its release notes say what that changes.",
        lock="by extension",
    ),
    CheckEntry(
        "server.setting.dangerous",
        "warning",
        "A setting of the server risks data: a crash, or a neglected table, is enough.",
        how="Set it back in postgresql.conf (or ALTER SYSTEM RESET) and reload the server.",
        lock="none",
    ),
    CheckEntry(
        "server.slot.inactive",
        "warning",
        "A replication slot without a consumer keeps WAL until the disk is full.",
        how="Start its consumer again, or drop the slot.",
        lock="none",
    ),
    CheckEntry(
        "server.archive.failing",
        "warning",
        "WAL cannot be archived: point-in-time recovery has a gap, and pg_wal grows.",
        how="Look at archive_command and the server's log.",
    ),
    CheckEntry(
        "server.version.unsupported",
        "warning",
        "This version of PostgreSQL gets no more fixes.",
        how="Upgrade to a supported version.",
    ),
    CheckEntry(
        "server.version.ending",
        "info",
        "This version of PostgreSQL will soon get no more fixes.",
        how="Plan the upgrade.",
    ),
    CheckEntry(
        "security.schema.public_create",
        "warning",
        "Everybody may create objects in a schema, and so put a function or table in front of others.",
        how="REVOKE CREATE ON SCHEMA … FROM PUBLIC, after a GRANT to those that need it.",
        lock="none",
    ),
    CheckEntry(
        "security.role.superuser",
        "warning",
        "The application's role is a superuser (or a member of one): a mistake in the application reaches everything.",
        how="The SQL makes another superuser where there is none, completes the role's grants, then takes the power.",
        lock="none",
    ),
    CheckEntry(
        "security.role.bypassrls",
        "warning",
        "The application's role ignores row level security.",
        how="ALTER ROLE … NOBYPASSRLS, once no policy hides rows that the application needs.",
        lock="none",
    ),
    CheckEntry(
        "security.role.not_read_only",
        "warning",
        "A role of read_only_roles may write, by a grant of its own or through a role it belongs to.",
        how="REVOKE; where the grant is another role's, its other members lose it too, but for the application.",
        lock="none",
    ),
    CheckEntry(
        "security.password.weak",
        "warning",
        "A password is stored as MD5, which is quickly guessed from a copy of the hash.",
        how="Set password_encryption to scram-sha-256 and give the role its password again.",
    ),
    CheckEntry(
        "security.function.definer",
        "warning",
        "A SECURITY DEFINER function has no search_path of its own: its caller can make it run other objects.",
        how="ALTER FUNCTION … SET search_path.",
        lock="none",
    ),
    CheckEntry(
        "security.hba.trust",
        "warning",
        "pg_hba.conf lets other machines in without a password.",
        how="Replace trust by scram-sha-256 and reload the server.",
    ),
    CheckEntry(
        "security.hba.trust_loopback",
        "info",
        "pg_hba.conf lets every local user in over TCP without a password.",
        how="Replace trust by scram-sha-256 and reload the server.",
    ),
    CheckEntry(
        "security.tls.off",
        "info",
        "The server listens beyond this machine without TLS: passwords are safe with SCRAM, data is not.",
        how="Set ssl = on with a certificate, and hostssl in pg_hba.conf.",
    ),
)
