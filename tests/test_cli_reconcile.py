"""`paycli reconcile` against a sandbox on a port: what it prints, every exit code, and what may interrupt it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway_client import Sandbox, sqlite
from gateway_client.sandbox.wire import Request
from tests.cli_world import API_KEY
from tests.nightly import DATABASES
from tests.nightly_shell import FINDING_FIELDS, NightShell, cells, night_shell

FIELDS = """run_id window_start window_end complete dry_run provider_charges local_charges matched repaired flagged
foreign findings why_incomplete news open_findings unreadable unreadable_ids""".split()
FIGURES = "provider_charges local_charges matched repaired flagged foreign news open_findings".split()


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        yield made


def trouble(shell: NightShell) -> None:
    """A charge that agrees, one in doubt, one with another amount, one unknown here, and a stranger's."""
    shell.pay("order_1")
    shell.doubt("order_2")
    shell.misstate("order_3")
    shell.pay_behind_our_back("order_4")
    shell.stranger_pays()


def figures(result: dict[str, Any]) -> list[int]:
    return [result[name] for name in FIGURES]


def seen(result: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(one["code"], one["intent_id"], one["action"]) for one in result["findings"]}


def test_json_is_one_object(shell: NightShell) -> None:
    """With --json a run is one object with exactly the promised fields, and nothing else is printed anywhere."""
    trouble(shell)
    run = shell.reconcile("--json")
    (result,) = run.objects
    assert (run.code, run.err, list(result)) == (1, "", FIELDS)
    assert [list(one) for one in result["findings"]] == [FINDING_FIELDS] * 3
    assert (result["complete"], result["dry_run"], result["why_incomplete"]) == (True, False, None)
    assert figures(result) == [5, 3, 1, 1, 2, 1, 3, 2]
    assert (shell.state("order_2"), shell.state("order_4"), shell.paid("order_4")) == ("succeeded", "succeeded", 1)


def test_for_people(shell: NightShell) -> None:
    """The summary has the verdict first, then what was repaired and flagged, both sides of each; talk is on stderr."""
    trouble(shell)
    run = shell.reconcile()
    two, three, four = (shell.row(f"order_{number}")["provider_charge_id"] for number in (2, 3, 4))
    ids = dict(shell.sql("SELECT intent_id, id FROM paycli_findings"))
    here, there = f"here succeeded 20.00 USD {three}", f"there succeeded 25.00 USD {three}"
    assert (run.code, run.err) == (1, "")
    assert [cells(line) for line in run.out.splitlines()] == [
        ["2026-11-20 (UTC): complete"],
        ["window", "2026-11-20T00:00:00.000Z to 2026-11-20T12:00:01.000Z"],
        ["provider", "5 charges: 1 matched, 1 foreign, 3 with a finding"],
        ["here", "3 charges"],
        ["repaired 1:"],
        [ids["order_2"], "outcome_recovered", "order_2", "here unknown 20.00 USD", f"there succeeded {two}"],
        ["flagged 2:"],
        [ids["order_3"], "amount_mismatch", "order_3", here, there],
        [ids["order_4"], "missing_locally, critical", "order_4", "here no row", f"there succeeded 20.00 USD {four}"],
        ["findings open: 2; a person must look, `paycli findings`"],
    ]


def test_the_second_run_changes_nothing(shell: NightShell) -> None:
    """Repairs are exit 0; run again, it says that nothing changed, repairs nothing and writes no history (F142)."""
    shell.pay("order_1")
    shell.doubt("order_2")
    first = shell.reconcile("--json")
    assert (first.code, figures(first.objects[0])) == (0, [2, 2, 1, 1, 0, 0, 1, 0])
    events = shell.sql("SELECT * FROM paycli_events")
    again, words = shell.reconcile("--json"), shell.reconcile()
    assert (again.code, figures(again.objects[0]), again.objects[0]["findings"]) == (0, [2, 2, 2, 0, 0, 0, 0, 0], [])
    nothing = "  nothing changed: no repair was needed, and nothing is flagged"
    assert (words.out.splitlines()[4:], shell.sql("SELECT * FROM paycli_events")) == ([nothing], events)


@pytest.mark.parametrize(("flagged", "code"), [(False, 0), (True, 1)])
def test_dry_run(shell: NightShell, flagged: bool, code: int) -> None:
    """A dry run finds what a run would and has its exit code, says so, and changes nothing; then the run does it."""
    shell.doubt("order_2")
    if flagged:
        shell.pay_behind_our_back("order_4")
        shell.misstate("order_3")
    before = shell.dump()
    dry, words = shell.reconcile("--dry-run", "--json"), shell.reconcile("--dry-run")
    assert (dry.code, words.code, dry.err, words.err, shell.dump()) == (code, code, "", "", before)
    assert words.out.splitlines()[0] == "2026-11-20 (UTC): complete, a dry run: nothing was changed"
    assert "  would repair 1:" in words.out.splitlines()
    (result,) = dry.objects
    (real,) = shell.reconcile("--json").objects
    assert (result["dry_run"], real["dry_run"]) == (True, False)
    assert seen(result) == {(*what, action.replace("repaired", "would_repair")) for *what, action in seen(real)}
    dry_sides, sides = ([(one["id"], one["here"], one["there"]) for one in of["findings"]] for of in (result, real))
    assert dry_sides == sides


def test_a_long_list_is_cut(shell: NightShell) -> None:
    """Of more than 20 findings 20 are shown, with how many more and where they are; --json has them all."""
    names = [f"order_{number:02}" for number in range(25)]
    for name in names:
        shell.pay_behind_our_back(name)
    dry = shell.reconcile("--dry-run").out
    assert (dry.count("missing_locally"), "    and 5 more: " in dry) == (20, True)
    assert "paycli findings" not in dry  # nothing of a dry run is kept: it is not there
    assert "    and 5 more: `paycli findings --all`" in shell.reconcile().out.splitlines()
    for name in names:
        shell.sandbox.remove(shell.row(name)["provider_charge_id"])
    lines = shell.reconcile().out.splitlines()
    assert [cells(line)[2] for line in lines[5:25]] == names[:20]
    (result,) = shell.reconcile("--json").objects
    assert seen(result) == {("missing_at_provider", name, "flagged") for name in names}


@pytest.mark.parametrize(
    ("day", "zone", "start", "end"),
    [
        ("today", "UTC", "20T00:00:00", "20T12:00:01"),
        ("yesterday", "UTC", "19T00:00:00", "20T00:00:00"),
        ("2026-11-19", "Europe/Berlin", "18T23:00:00", "19T23:00:00"),
        ("today", "Pacific/Kiritimati", "20T10:00:00", "20T12:00:01"),
        ("yesterday", "Pacific/Kiritimati", "19T10:00:00", "20T10:00:00"),
    ],
)
def test_which_day(shell: NightShell, day: str, zone: str, start: str, end: str) -> None:
    """A day is the zone's: its charges are those from its first second to before the first of the next (F124, F125)."""
    shell.sql("UPDATE paycli_store SET created_at = ?", ("2026-11-01 12:00:00.000000",))
    for at in (start, end):
        shell.stranger_pays()
        created = datetime.fromisoformat(f"2026-11-{at}+00:00").timestamp()
        shell.sandbox.change(shell.sandbox.charges[0]["id"], created=int(created))
    run = shell.paycli("reconcile", "--date", day, "--tz", zone, "--json")
    (result,) = run.objects
    assert (run.code, result["complete"], figures(result)) == (0, True, [1, 0, 0, 0, 0, 1, 0, 0])
    assert (result["window_start"], result["window_end"]) == (f"2026-11-{start}.000Z", f"2026-11-{end}.000Z")


DAYS = "2026-13-01 20/11/2026 20261120 26-11-20 2026-11-20T00:00 tomorrow -1 9999-12-31 2026-11-21 \udcff".split()
ZONES = ["", *"Berlin ../../etc/passwd /etc/localtime \udcff".split()]
NONE = [("--date", text) for text in (*DAYS, "", "2026-11-20\n")] + [("--tz", text) for text in ZONES]


@pytest.mark.parametrize(("option", "text"), NONE)
@pytest.mark.parametrize("shell", ["sync"], indirect=True)  # no database is opened
def test_days_and_zones_that_are_none(shell: NightShell, option: str, text: str) -> None:
    """A day that is none or has not begun, and a zone that is none, is exit 2; nobody is asked, nothing is changed."""
    before, run = shell.dump(), shell.reconcile(option, text, "--json")
    assert (run.code, run.out, len(run.err.splitlines())) == (2, "", 1)
    assert run.err.startswith(f"error: {option}: ")
    assert (shell.dump(), shell.asked) == (before, [])


def test_settings_that_cannot_be(shell: NightShell) -> None:
    """No key, or one of another account, mode or namespace, is exit 2: it is named, and nothing is changed."""
    before = shell.dump()
    with Sandbox(account="acct_1Other", time=shell.clock.true_time).serve() as other:
        for env, said in (
            ({"STRIPE_API_KEY": ""}, "STRIPE_API_KEY"),
            ({"STRIPE_API_KEY": "pk_test_1"}, "STRIPE_API_KEY"),
            ({"PAYCLI_STRIPE_API_BASE": other.url}, "STRIPE_API_KEY is of account acct_1Other"),
            ({"PAYCLI_STRIPE_ACCOUNT": "acct_1Other"}, "PAYCLI_STRIPE_ACCOUNT says acct_1Other"),
            ({"STRIPE_API_KEY": "sk_live_1", "PAYCLI_STRIPE_API_BASE": ""}, "belongs to stripe, test mode"),
            ({"PAYCLI_NAMESPACE": "other"}, "namespace 'default'"),
        ):
            run = shell.reconcile("--json", **env)
            assert (run.code, run.out, said in run.err, env) == (2, "", True, env)
    assert (shell.dump(), shell.asked) == (before, [])


def test_a_key_that_is_revoked_in_the_middle(shell: NightShell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 in mid-run is exit 2 and names the variable; with a good key any host can go on at once (F46)."""
    shell.doubt("order_1")
    begin = shell.sandbox.begin

    def revoked(request: Request) -> Any:
        if request.path.startswith("/v1/charges"):
            shell.sandbox.revoke(API_KEY)
        return begin(request)

    monkeypatch.setattr(shell.sandbox, "begin", revoked)
    run = shell.reconcile("--json")
    assert (run.code, run.out, "check STRIPE_API_KEY" in run.err, shell.state("order_1")) == (2, "", True, "unknown")
    shell.sql("UPDATE paycli_runs SET leased_by = 'elsewhere:4242:7'")
    assert shell.reconcile(STRIPE_API_KEY="sk_test_another").code == 0
    assert shell.sql("SELECT complete FROM paycli_runs") == [(1,)]


@pytest.mark.parametrize(
    ("base", "wrong_s", "said"),
    [("http://127.0.0.1:1", 0, "the provider could not be asked: "), (None, 3_600, "this machine's clock is ")],
)
def test_nothing_could_be_asked(shell: NightShell, base: str | None, wrong_s: int, said: str) -> None:
    """With nobody at the provider's port, or a wrong clock, it is exit 3 in one line, and nothing is changed."""
    shell.doubt("order_1")
    before, shell.clock.wrong_s = shell.dump(), wrong_s
    shell.env["PAYCLI_STRIPE_API_BASE"] = base or shell.env["PAYCLI_STRIPE_API_BASE"]
    for options in ((), ("--dry-run",), ("--json",)):
        run = shell.reconcile(*options)
        assert (run.code, run.out, len(run.err.splitlines()), shell.dump()) == (3, "", 1, before)
        assert run.err.startswith(f"error: {said}")


def test_incomplete(shell: NightShell) -> None:
    """A list that cannot be read to its end is exit 3 with the reason, claims nothing, and is gone on with (F122)."""
    shell.doubt("order_1", "lost_request")
    shell.sandbox.fault("unavailable_503", times=12, on="GET /v1/charges")
    run, words = shell.reconcile("--json"), shell.reconcile()
    (result,) = run.objects
    assert (run.code, words.code, result["complete"]) == (3, 3, False)
    assert result["why_incomplete"].startswith("/v1/charges: HTTP 503")
    assert run.err.startswith("error: incomplete: /v1/charges: HTTP 503")
    assert words.out.splitlines()[0] == "2026-11-20 (UTC): INCOMPLETE"
    assert "no repair was needed" not in words.out
    done = shell.reconcile("--json")
    assert (done.code, done.objects[0]["run_id"], done.objects[0]["complete"]) == (0, result["run_id"], True)


def test_another_process_is_at_it(shell: NightShell) -> None:
    """While another host holds the day it is exit 3 and says who; a dry run may look; later it is taken over (F114)."""
    shell.doubt("order_1")
    shell.sandbox.fault("unavailable_503", times=6, on="GET /v1/payment_intents")
    shell.reconcile()
    holds = "UPDATE paycli_runs SET leased_by = 'elsewhere:4242:7', leased_until = ?"
    now = datetime.now(UTC) if "postgresql" in shell.kind else shell.clock.now  # a server judges by its own clock
    shell.sql(holds, (f"{now + timedelta(hours=1):%Y-%m-%d %H:%M:%S.%f}",))
    before, run = shell.dump(), shell.reconcile()
    assert (run.code, run.out, shell.dump(), "by elsewhere:4242:7, since" in run.err) == (3, "", before, True)
    assert shell.reconcile("--dry-run").code == 0
    shell.sql(holds, ("2026-11-20 11:59:59.000000",))
    assert (shell.reconcile().code, shell.state("order_1")) == (0, "succeeded")


@pytest.mark.parametrize("shell", ["sync"], indirect=True)  # a lock of the whole file
def test_database_is_locked(shell: NightShell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that another transaction holds is exit 3; nothing was changed, and later it is done."""
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT_S", 0)
    monkeypatch.setattr(sqlite, "OPTIONS", {"connect_args": {"timeout": 0}})
    shell.doubt("order_1")
    with closing(sqlite3.connect(shell.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        run = shell.reconcile()
    assert (run.code, run.out, "it stayed locked" in run.err) == (3, "", True)
    assert (shell.reconcile().code, shell.state("order_1")) == (0, "succeeded")
