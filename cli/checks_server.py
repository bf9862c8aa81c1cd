"""What `paycli doctor` makes of a PostgreSQL server: version, durability, role, history, text and rights. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cli.checks import SETTINGS, Check, not_checked, ok, problem, warning

if TYPE_CHECKING:
    from gateway_client.condition import Collations, Rights, Setting

POSTGRES_MIN = 140000


def postgres_version(place: str, version: str, number: int | None) -> Check:
    """Which server it is."""
    short = " ".join(version.split()[:2]).rstrip(",")
    found = f"{short}, database {place}"
    if short.startswith("PostgreSQL") and (number or 0) < POSTGRES_MIN:
        return problem("database", found, "needed is PostgreSQL 14 or newer")
    return ok("database", found)


_SET_BY = {
    "database": "ALTER DATABASE … RESET {name}",
    "user": "ALTER ROLE … RESET {name}",
    "database user": "ALTER ROLE … IN DATABASE … RESET {name}",
    "client": "take {name} out of the options of PAYCLI_DATABASE_URL",
}


def postgres_durability(settings: Mapping[str, Setting]) -> Check:
    """Whether a commit is on disk when it is reported, for this user and database."""
    found = ", ".join(f"{name} {setting.value}" for name, setting in settings.items())
    off = {name: setting for name, setting in settings.items() if setting.value == "off"}
    if not off:
        return ok("durability", found or "the server has no such settings: its own documents say what a commit is")
    advice = "; ".join(
        _SET_BY.get(setting.source, "set {name} = on in the server's configuration").format(name=name)
        + f" (it is set by: {setting.source})"
        for name, setting in off.items()
    )
    if off.keys() == {"full_page_writes"}:
        return warning("durability", f"{found}: a power cut can tear a page", advice)
    return problem("durability", f"{found}: a commit that was reported can be lost. Nothing is sent", advice)


def primary(*, replica: bool) -> Check:
    """Whether this is the server that decides."""
    if replica:
        return problem(
            "primary",
            "a replica: what it reads may be old, and it takes no row. Nothing is sent",
            "name the primary in PAYCLI_DATABASE_URL (target_session_attrs=read-write finds it)",
            SETTINGS,
        )
    return ok("primary", "the primary, not a replica")


def timeline(here: str | None, stored: str | None) -> Check:
    """Whether the database has the history that the store was bound on."""
    if here is None:
        return not_checked("timeline", "the server does not tell its timeline")
    if stored is None:
        return ok("timeline", f"{here}; the store has none written down")
    if here == stored:
        return ok("timeline", f"{here}, as the store has it")
    return problem(
        "timeline",
        f"{here}, and the store was bound on {stored}: a standby was promoted, or a backup restored. What was "
        "committed before may be missing",
        "stop charging, and reconcile every day since then",
    )


def collation(found: Collations) -> Check:
    """Whether text is still sorted as it was when its indexes were made."""
    if found.ours:
        return problem(
            "collation",
            f"{found.ours[0]} and {len(found.ours) - 1} more columns of ours hang on a collation: when it changes with "
            "the system, charges are not found any more",
            'ALTER TABLE … ALTER COLUMN … TYPE varchar COLLATE "C", as `paycli init --sql` shows each',
        )
    if found.recorded != found.actual:
        return warning(
            "collation",
            f"the database was made with version {found.recorded} of its collation, the system has {found.actual} now: "
            "indexes of other tables may hide rows. Ours are compared byte by byte, and sound",
            "REINDEX DATABASE …, then ALTER DATABASE … REFRESH COLLATION VERSION",
        )
    return ok("collation", "our text is compared byte by byte; the database's collation is as it was made")


def permissions(rights: Rights) -> Check:
    """Whether this user may do what `paycli` does."""
    create = f"{'may' if rights.may_create else 'may not'} create tables in schema {rights.schema or '(none)'}"
    if not rights.missing:
        return ok("permissions", f"this user may read and write all of our tables, and {create} (`paycli init`)")
    lacks = ", ".join(f"{word} on {name}" for name, word in rights.missing)
    grants = "; ".join(f"GRANT {word} ON {name} TO …" for name, word in rights.missing)
    return problem("permissions", f"this user lacks {lacks}; it {create}", grants, SETTINGS)
