"""What `paycli doctor` makes of what it finds: each check good and bad. The command is run in `test_cli_doctor.py`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cli import checks, checks_server
from cli.checks import Check
from gateway_client import Stripe
from gateway_client.condition import Mount, Rights, Setting, SqliteSettings, mount_of
from gateway_client.gateways.base import Account, Binding
from reconcile.ages import AGES
from reconcile.alerts import Facts, Group
from tests.kit import START

ON = {name: Setting("on", "default") for name in ("fsync", "synchronous_commit", "full_page_writes")}
GIB = 1024**3
BOUND = Binding("stripe", "test", "acct_1", "default")
KEY = Stripe("sk_test_1")
NOTHING = Facts(START, (), None, START - timedelta(hours=3), None, ())


def judged(check: Check) -> tuple[str, int]:
    """The word and the exit code; what is not ok says what to do."""
    assert (check.result is checks.Result.OK) <= (check.advice is None and check.code == 0)
    if check.result in (checks.Result.WARNING, checks.Result.PROBLEM):
        assert check.advice
        assert check.code
    return check.result.value, check.code


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SqliteSettings("wal", 2), ("ok", 0)),
        (SqliteSettings("wal", 3), ("ok", 0)),
        (SqliteSettings("wal", 1), ("problem", 1)),
        (SqliteSettings("delete", 2), ("warning", 1)),
    ],
)
def test_sqlite_durability(settings: SqliteSettings, expected: tuple[str, int]) -> None:
    """A file whose commits could be lost is told; one that is still to be switched to WAL is a warning."""
    assert judged(checks.sqlite_durability(settings)) == expected


@pytest.mark.parametrize(
    ("modes", "own", "writable", "expected"),
    [
        ({"": 0o600, "-wal": 0o600}, True, True, ("ok", 0)),
        ({"": 0o644}, True, True, ("warning", 1)),
        ({"": 0o600, "-wal": 0o640}, True, True, ("warning", 1)),
        ({"": 0o600}, False, True, ("warning", 1)),
        ({"": 0o600}, True, False, ("problem", 2)),
    ],
)
def test_file(modes: dict[str, int], own: bool, writable: bool, expected: tuple[str, int]) -> None:
    """The store's files are their owner's alone, the write-ahead log as well, and may be written."""
    assert judged(checks.file("/srv/paycli.db", modes, own=own, writable=writable)) == expected


@pytest.mark.parametrize(
    ("mount", "free_bytes", "expected"),
    [
        (Mount("/", "ext4"), 5 * GIB, ("ok", 0)),
        (None, 5 * GIB, ("ok", 0)),
        (Mount("/", "ext4"), 99 * 1024**2, ("warning", 1)),
        (Mount("/srv", "nfs4"), 5 * GIB, ("problem", 1)),
        (Mount("/srv", "fuse.sshfs"), 5 * GIB, ("problem", 1)),
        (Mount("/tmp", "tmpfs"), 5 * GIB, ("warning", 1)),
    ],
)
def test_disk(mount: Mount | None, free_bytes: int, expected: tuple[str, int]) -> None:
    """A disk of another machine is refused in words, memory and a full disk are warnings."""
    assert judged(checks.disk("/srv/paycli.db", mount, free_bytes)) == expected


def test_mount_of_a_path(tmp_path: Path) -> None:
    """A file is on the file system with the longest mount point above it; of two on one point the last counts."""
    folder = tmp_path / "with space" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    escaped = str(tmp_path / "with space").replace(" ", "\\040")
    mounts = (
        f"/dev/sda1 / ext4 rw 0 0\nserver:/x {escaped} nfs4 rw 0 0\nnone {tmp_path}/wit tmpfs rw 0 0\n"
        f"none {tmp_path} xfs rw 0 0\nnone {tmp_path} btrfs rw 0 0\nbroken\n"
    )
    kinds = {str(path): mount_of(path, mounts) for path in (folder, tmp_path / "link", tmp_path, Path("/"))}
    assert kinds == {
        str(folder): Mount(str(tmp_path / "with space"), "nfs4"),
        str(tmp_path / "link"): Mount(str(tmp_path / "with space"), "nfs4"),
        str(tmp_path): Mount(str(tmp_path), "btrfs"),
        "/": Mount("/", "ext4"),
    }
    assert mount_of(folder, "") is None


@pytest.mark.parametrize(
    ("version", "number", "expected"),
    [
        ("PostgreSQL 18.1 on x86_64, compiled by gcc", 180001, ("ok", 0)),
        ("PostgreSQL 14.0, compiled by gcc", 140000, ("ok", 0)),
        ("PostgreSQL 13.9 on x86_64", 130009, ("problem", 1)),
        ("CockroachDB CCL v25.1.0 (x86_64)", 130000, ("ok", 0)),
        ("SomethingElse 1", None, ("ok", 0)),
    ],
)
def test_postgres_version(version: str, number: int | None, expected: tuple[str, int]) -> None:
    """PostgreSQL 14 is the oldest; what another engine calls itself is shown, and no reason to refuse it."""
    check = checks_server.postgres_version("billing on db", version, number)
    assert judged(check) == expected
    assert check.found.startswith(" ".join(version.split()[:2]).rstrip(","))


@pytest.mark.parametrize(
    ("changed", "expected", "advice"),
    [
        ({}, ("ok", 0), None),
        ({"synchronous_commit": Setting("local", "user")}, ("ok", 0), None),
        (
            {"fsync": Setting("off", "configuration file")},
            ("problem", 1),
            "set fsync = on in the server's configuration",
        ),
        (
            {"synchronous_commit": Setting("off", "database")},
            ("problem", 1),
            "ALTER DATABASE … RESET synchronous_commit",
        ),
        ({"synchronous_commit": Setting("off", "user")}, ("problem", 1), "ALTER ROLE … RESET synchronous_commit"),
        ({"full_page_writes": Setting("off", "default")}, ("warning", 1), "set full_page_writes = on"),
    ],
)
def test_postgres_durability(changed: dict[str, Setting], expected: tuple[str, int], advice: str | None) -> None:
    """F89: what could lose a reported commit is a problem, and the advice says where it was set."""
    check = checks_server.postgres_durability(ON | changed)
    assert judged(check) == expected
    assert (check.advice or "").startswith(advice or "")


def test_an_engine_without_those_settings() -> None:
    """An engine that knows none of the settings is not refused for it."""
    assert judged(checks_server.postgres_durability({})) == ("ok", 0)


@pytest.mark.parametrize(
    ("here", "stored", "expected"),
    [
        ("00000001", "00000001", ("ok", 0)),
        ("00000001", None, ("ok", 0)),
        (None, "00000001", ("not checked", 0)),
        ("00000002", "00000001", ("problem", 1)),
    ],
)
def test_timeline(here: str | None, stored: str | None, expected: tuple[str, int]) -> None:
    """F88: a database on another history than the store was bound on is told."""
    assert judged(checks_server.timeline(here, stored)) == expected


def test_replica_and_rights() -> None:
    """F92: a replica is refused; so is a user that lacks a right, and the grants are spelled out."""
    assert judged(checks_server.primary(replica=False)) == ("ok", 0)
    assert judged(checks_server.primary(replica=True)) == ("problem", 2)
    assert judged(checks_server.permissions(Rights((), "public", False))) == ("ok", 0)
    lacking = checks_server.permissions(
        Rights((("paycli_sends", "INSERT"), ("paycli_sends", "UPDATE")), "public", True)
    )
    assert judged(lacking) == ("problem", 2)
    assert lacking.advice == "GRANT INSERT ON paycli_sends TO …; GRANT UPDATE ON paycli_sends TO …"


@pytest.mark.parametrize(
    ("gateway", "told", "expected"),
    [
        (KEY, "acct_1", ("ok", 0)),
        (Stripe("sk_test_1", account="acct_1"), "acct_1", ("ok", 0)),
        (Stripe("sk_test_1", account="acct_2"), "acct_1", ("problem", 2)),
        (Stripe("rk_test_1", account="acct_1"), "acct_1", ("ok", 0)),
        (Stripe("rk_test_1"), "acct_1", ("ok", 0)),
    ],
)
def test_account(gateway: Stripe, told: str, expected: tuple[str, int]) -> None:
    """Whose the key is comes from the provider alone; what is declared is compared with it."""
    check = checks.account(gateway, Account(told))
    assert judged(check) == expected
    assert ("said by the provider" in check.found) == (expected == ("ok", 0))


@pytest.mark.parametrize(
    ("binding", "gateway", "namespace", "account", "expected", "words"),
    [
        (BOUND, KEY, "default", "acct_1", ("ok", 0), "as the settings are"),
        (None, KEY, "default", "acct_1", ("ok", 0), "belongs to nobody yet"),
        (BOUND, Stripe("sk_live_1"), "default", "acct_1", ("problem", 2), "the settings say mode live"),
        (BOUND, KEY, "other", "acct_1", ("problem", 2), "the settings say namespace other"),
        (BOUND, KEY, "default", "acct_2", ("problem", 2), "the settings say account acct_2"),
        (BOUND, KEY, "default", None, ("not checked", 0), "not compared: account"),
        (BOUND, KEY, None, "acct_2", ("problem", 2), "the settings say account acct_2"),
        (BOUND, None, "default", None, ("not checked", 0), "not compared: provider, mode, account"),
    ],
)
def test_store(
    binding: Binding | None,
    gateway: Stripe | None,
    namespace: str | None,
    account: str | None,
    expected: tuple[str, int],
    words: str,
) -> None:
    """A store of another mode, account or namespace is a wrong setting; what is not known is not called fine."""
    check = checks.store(binding, gateway, namespace, account)
    assert judged(check) == expected
    assert words in check.found


@pytest.mark.parametrize(
    ("offset_s", "expected", "words"),
    [
        (0, ("ok", 0), "agree within 2 s"),
        (2, ("ok", 0), "agree within 2 s"),
        (2.1, ("warning", 1), "2.1 s behind the provider's"),
        (-3, ("warning", 1), "3.0 s ahead of the provider's"),
        (300, ("warning", 1), "300.0 s behind"),
        (-301, ("problem", 1), "301.0 s ahead of"),
    ],
)
def test_clock(offset_s: float, expected: tuple[str, int], words: str) -> None:
    """F95: more than two seconds is a warning, more than sending allows a problem."""
    check = checks.clock("provider clock", "the provider's", timedelta(seconds=offset_s), timedelta(minutes=5))
    assert judged(check) == expected
    assert words in check.found


@pytest.mark.parametrize(
    ("ahead_s", "expected"), [(-10, ("ok", 0)), (60, ("ok", 0)), (61, ("problem", 1)), (None, ("ok", 0))]
)
def test_store_clock(ahead_s: float | None, expected: tuple[str, int]) -> None:
    """A store that has seen the future sends nothing, and it is said when it will."""
    latest = None if ahead_s is None else START + timedelta(seconds=ahead_s)
    assert judged(checks.store_clock(START, latest)) == expected


def facts(**changes: object) -> Facts:
    return Facts(**{name: getattr(NOTHING, name) for name in Facts.__slots__} | changes)


@pytest.mark.parametrize(
    ("hours", "keys_over", "expected"),
    [(24, 0, ("ok", 0)), (24.1, 0, ("warning", 1)), (23.5, 1, ("warning", 1))],
)
def test_pending(hours: float, keys_over: int, expected: tuple[str, int]) -> None:
    """Pending charges are counted by state with the oldest of all; too old, or past a key's life, is a warning."""
    groups = (
        Group("prepared", 2, START - timedelta(hours=1), "order_1"),
        Group("unknown", 3, START - timedelta(hours=hours), "order_2"),
    )
    check = checks.pending(facts(pending_too_long=groups), AGES, keys_over)
    assert judged(check) == expected
    assert check.found.startswith("2 prepared, 3 unknown; the oldest is order_2, for ")
    assert ("past the life of its key" in check.found) == bool(keys_over)
    assert judged(checks.pending(NOTHING, AGES, 0)) == ("ok", 0)


def test_findings() -> None:
    """An open finding is a warning, a critical one a problem."""
    critical = facts(findings=(Group("duplicate_charge", 1, START, "order_1", 1),))
    assert judged(checks.findings(NOTHING, 0)) == ("ok", 0)
    assert judged(checks.findings(NOTHING, 2)) == ("warning", 1)
    assert judged(checks.findings(critical, 2)) == ("problem", 1)


def test_reconciliation() -> None:
    """Nights that are missing, late or left unfinished are warnings, each with its way out."""
    limit = timedelta(hours=26)
    unfinished = facts(unfinished=Group("--date 2026-11-19 --tz UTC", 1, START, ""))
    assert judged(checks.reconciliation(NOTHING, limit)) == ("ok", 0)
    assert judged(checks.reconciliation(facts(reconciled_at=None), limit)) == ("warning", 1)
    assert judged(checks.reconciliation(facts(reconciled_at=START - timedelta(hours=27)), limit)) == ("warning", 1)
    check = checks.reconciliation(unfinished, limit)
    assert judged(check) == ("warning", 1)
    assert check.advice == "run `paycli reconcile --date 2026-11-19 --tz UTC` first"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((), 0), ((0, 0), 0), ((0, 1), 1), ((1, 3, 0), 3), ((3, 2, 1), 2)],
)
def test_exit_code(codes: tuple[int, ...], expected: int) -> None:
    """A wrong setting is told before what could not be asked, and that before what needs a person."""
    assert checks.exit_code(codes) == expected
