"""`paycli alerts`: its lines, its exit codes, and what reaches a webhook. When one fires is in `test_alerts.py`."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import stripe

from gateway_client.charge import age, iso
from tests.cli_world import world
from tests.kit import START
from tests.nightly import DATABASES
from tests.nightly_facts import KEY_LIFE
from tests.nightly_shell import NO_KEY, NightShell, night_shell
from tests.test_webhook import http_server

SECRET = "whsec_CanaryOfTheCoalMine4242"
SIGNED = {"PAYCLI_WEBHOOK_SECRET": SECRET}
FIELDS = "cause severity count since intent_id message".split()
NEVER = "no reconciliation was ever completed: run `paycli reconcile`, and every night"
CLOSED = "http://127.0.0.1:1"
PATH = "/hooks/CanaryInThePath"
TRIES = 4


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        made.env |= {"PAYCLI_WEBHOOK_SECRET": ""}
        yield made


def trouble(shell: NightShell) -> None:
    """One of each cause, 22 hours after it began."""
    gone = shell.lose_charge("order_1")
    assert shell.reconcile().code == 1
    assert gone
    shell.doubt("order_2", "lost_request")
    shell.clock.advance(hours=22)


EVERY_CAUSE = ("--older-than", "20h", "--reconcile-older-than", "20h")
LINES = [
    ("pending_unknown", "1 charge unknown for more than 20h 0m, the oldest order_2 for 22h 0m: see `paycli pending`"),
    (
        "key_ends_soon",
        "1 charge in doubt whose key's life ends soon, the first order_2 in "
        f"{age(KEY_LIFE - timedelta(hours=22))}: run `paycli resume` before then",
    ),
    (
        "not_reconciled",
        "the last complete reconciliation ended 22h 0m ago, more than 20h 0m: run `paycli reconcile`, "
        "and see why it did not run",
    ),
    (
        "missing_at_provider",
        "1 succeeded here, and the provider has no such charge, the oldest order_1, found 22h 0m ago: see `paycli "
        "findings`",
    ),
]
"""What `alerts` says of that trouble with these options."""


# What is printed ------------------------------------------------------------------------------------------------------


def test_one_line_for_each_cause(shell: NightShell) -> None:
    """Each cause is one line of words, exit 1; it needs no provider's key and asks nobody but the database."""
    trouble(shell)
    asked, before = shell.asked, shell.dump()
    run = shell.paycli("alerts", *EVERY_CAUSE, **NO_KEY)
    assert (run.code, run.err) == (1, "")
    assert run.out.splitlines() == [f"{cause}: {message}" for cause, message in LINES]
    assert (shell.asked, shell.dump()) == (asked, before)


def test_json(shell: NightShell) -> None:
    """For programs each is one object with the promised fields, and the same words."""
    trouble(shell)
    run = shell.paycli("alerts", *EVERY_CAUSE, "--json")
    assert (run.code, run.err, [list(one) for one in run.objects]) == (1, "", [FIELDS] * 4)
    assert [(one["cause"], one["message"]) for one in run.objects] == LINES
    since, soon = iso(START), iso(START + KEY_LIFE)
    assert [(one["count"], one["since"], one["intent_id"]) for one in run.objects] == [
        (1, since, "order_2"),
        (1, soon, "order_2"),
        (1, since, None),
        (1, since, "order_1"),
    ]


def test_a_store_with_nothing_in_it(shell: NightShell) -> None:
    """A new store has one thing to say, until its first complete reconciliation, and again when the next is late."""
    first = shell.paycli("alerts")
    assert (first.code, first.out) == (1, f"not_reconciled: {NEVER}\n")
    assert shell.reconcile("--dry-run").code == 0
    assert shell.paycli("alerts").out == first.out
    assert shell.reconcile().code == 0
    shell.clock.advance(hours=26)
    for options in ((), ("--json",)):
        run = shell.paycli("alerts", *options)
        assert (run.code, run.out, run.err) == (0, "", "nothing to look into\n")
    shell.clock.advance(seconds=1)
    assert shell.paycli("alerts").code == 1


def test_older_than(shell: NightShell) -> None:
    """The options are the limits, to the second."""
    shell.reconcile()
    shell.doubt("order_1", "lost_request")
    shell.clock.advance(hours=1)
    assert shell.paycli("alerts", "--older-than", "3600s", "--reconcile-older-than", "60m").code == 0
    shell.clock.advance(seconds=1)
    assert shell.paycli("alerts", "--older-than", "60m").out.partition(":")[0] == "pending_unknown"
    assert shell.paycli("alerts", "--reconcile-older-than", "1h").out.partition(":")[0] == "not_reconciled"


def test_findings_older_than(shell: NightShell) -> None:
    """C1: a night that flags what is not critical is told once that is open for too long, to the second."""
    shell.misstate("order_1")
    assert shell.reconcile().code == 1
    shell.clock.advance(hours=1)
    assert shell.paycli("alerts", "--findings-older-than", "60m").code == 0
    shell.clock.advance(seconds=1)
    run = shell.paycli("alerts", "--findings-older-than", "60m")
    words = "1 of another amount at the provider, the oldest order_1, found 1h 0m ago: see `paycli findings`"
    assert (run.code, run.out) == (1, f"amount_mismatch: {words}\n")


def test_money_taken_for_a_declined_order(shell: NightShell) -> None:
    """C1: money that the provider has taken for what was declined here is told at once, as critical."""
    shell.pay("order_1", "pm_card_chargeDeclined")
    shell.change("order_1", status="succeeded", captured=True)
    assert shell.reconcile().code == 1
    assert "status_mismatch, critical" in shell.paycli("findings").out
    run = shell.paycli("alerts", "--json")
    assert (run.code, [(one["cause"], one["severity"]) for one in run.objects]) == (
        1,
        [("status_mismatch", "critical")],
    )


@pytest.mark.parametrize("option", ["--older-than", "--findings-older-than", "--reconcile-older-than"])
@pytest.mark.parametrize("text", ["", "24", "-1h", "1w", "9999999999d", "١h", "\udcff"])
def test_bad_durations(shell: NightShell, option: str, text: str) -> None:
    """A time that is none is exit 2 and names its option."""
    run = shell.paycli("alerts", option, text)
    assert (run.code, run.out) == (2, "")
    assert run.err == f"error: {option}: must be a number with s, m, h or d, such as 90s, 15m, 24h or 7d\n"


@pytest.mark.parametrize("option", ["--older-than", "--reconcile-older-than"])
def test_endless_durations(shell: NightShell, option: str) -> None:
    """A time longer than the calendar is one that nothing is older than; the other causes are told."""
    trouble(shell)
    run = shell.paycli("alerts", *EVERY_CAUSE, option, "999999999d", "--json")
    silent = {"--older-than": "pending_unknown", "--reconcile-older-than": "not_reconciled"}[option]
    assert (run.code, run.err) == (1, "")
    assert {one["cause"] for one in run.objects} == {cause for cause, _ in LINES} - {silent}


def test_escape_codes_do_nothing(shell: NightShell) -> None:
    """What stands in the store cannot steer a terminal (S24)."""
    shell.doubt("order_1", "lost_request")
    shell.clock.advance(hours=25)
    for table in ("paycli_events", "paycli_sends"):
        shell.sql(f"DELETE FROM {table}")
    shell.sql("UPDATE pending_charges SET intent_id = ?", ("\x1b[2J\u202eno\x07",))
    words, objects = shell.paycli("alerts"), shell.paycli("alerts", "--json")
    assert not set("\x1b\x07\u202e") & set(words.out + words.err + objects.out + objects.err)
    assert objects.objects[0]["intent_id"] == "\x1b[2J\u202eno\x07"


@pytest.mark.parametrize("shell", ["sync"], indirect=True)  # a file
def test_a_database_that_cannot_be_read(shell: NightShell, tmp_path: Path) -> None:
    """A file that is no database is exit 3 with its path, and nothing is told to anybody."""
    file = tmp_path / "store.db"
    file.write_bytes(b"this is no database. " * 999)
    with http_server(200) as (base, arrived):
        run = shell.paycli("alerts", "--webhook", base, PAYCLI_DATABASE_URL=f"sqlite:///{file}", **SIGNED)
    assert (run.code, run.out, arrived) == (3, "", [])
    assert f"the database {file} cannot be used: its file is not a SQLite database" in run.err


@pytest.mark.parametrize("shell", ["sync"], indirect=True)  # its lock is of the whole file
def test_while_another_process_writes(shell: NightShell) -> None:
    """A database that others are writing to, or that is locked by them, is read all the same."""
    trouble(shell)
    with sqlite3.connect(shell.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE pending_charges SET state = 'succeeded'")
        run = shell.paycli("alerts", *EVERY_CAUSE)
        other.execute("ROLLBACK")
    other.close()
    assert (run.code, len(run.out.splitlines())) == (1, 4)


# A webhook ------------------------------------------------------------------------------------------------------------


def alerts_in(body: bytes) -> list[dict[str, Any]]:
    sent = json.loads(body)
    assert list(sent) == ["alerts", "cleared", "sent_at"]
    return list(sent["alerts"])


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_delivered(shell: NightShell, options: tuple[str, ...]) -> None:
    """The lines that are printed arrive in one POST, signed so that Stripe's SDK accepts it; exit 1."""
    trouble(shell)
    expected = shell.paycli("alerts", *EVERY_CAUSE, *options)
    objects = shell.paycli("alerts", *EVERY_CAUSE, "--json").objects
    with http_server(200) as (base, arrived):
        run = shell.paycli("alerts", *EVERY_CAUSE, *options, "--webhook", base + PATH, **SIGNED)
    ((path, headers, body),) = arrived
    assert (run.code, run.out, run.err) == (1, expected.out, "delivered to the webhook\n")
    assert (path, alerts_in(body)) == (PATH, objects)
    signed = headers["Paycli-Signature"]
    assert stripe.WebhookSignature.verify_header(body, signed, SECRET)
    assert signed.startswith(f"t={int(START.timestamp()) + 22 * 3600},v1=")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(body, signed, SECRET + "x")


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ((500,) * TRIES, "HTTP 500 on the last of 4 tries"),
        ((302,), "HTTP 302, a redirect, which is not followed, on try 1"),
        ((404,), "HTTP 404, on try 1"),
        ((), "no connection"),
    ],
)
def test_not_delivered(shell: NightShell, statuses: tuple[int, ...], said: str) -> None:
    """When the receiver fails the lines are printed all the same, exit 3 says why; no secret and no path (F149)."""
    trouble(shell)
    expected = shell.paycli("alerts", *EVERY_CAUSE)
    with http_server(*statuses) as (base, arrived):
        url = (base if statuses else CLOSED) + PATH
        run = shell.paycli("alerts", *EVERY_CAUSE, "--webhook", url, **SIGNED)
    assert (run.code, run.out, len(arrived)) == (3, expected.out, len(statuses))
    assert run.err.startswith("error: the alerts count as not delivered to http://127.0.0.1: ")
    assert said in run.err
    assert not [canary for canary in (SECRET, "Canary") if canary in run.err]


def test_delivered_at_last(shell: NightShell) -> None:
    """A receiver that fails for a moment gets them; that is exit 1, as if it had never failed."""
    with http_server(503, 200) as (base, arrived):
        run = shell.paycli("alerts", "--webhook", base, **SIGNED)
    assert (run.code, run.err, len(arrived)) == (1, "delivered to the webhook\n", 2)


def test_nothing_to_tell(shell: NightShell) -> None:
    """With nothing to look into nothing is sent: exit 0."""
    shell.reconcile()
    with http_server(200) as (base, arrived):
        run = shell.paycli("alerts", "--webhook", base, **SIGNED)
    assert (run.code, run.out, arrived) == (0, "", [])


def test_alerts_reach_the_webhook_when_stdout_is_full(tmp_path: Path) -> None:
    """A full disk under cron's log does not keep an alert from its receiver; it is exit 3 then (F149, F152)."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with world(tmp_path) as machine, http_server(200) as (base, arrived):
        machine.paycli("init")
        command, env = machine.command("alerts", "--webhook", base)
        with Path("/dev/full").open("wb") as full:
            run = subprocess.run(
                command, env=env | SIGNED, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, text=True
            )
        machine.outputs.append(run.stderr)
        assert [one["cause"] for _, _, body in arrived for one in alerts_in(body)] == ["not_reconciled"]
    assert (run.returncode, "the output could not be written" in run.stderr) == (3, True)


# What is refused before anything is done ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/Canary",
        "http://example.com/Canary",
        "http://127.0.0.1.example.com/Canary",
        "https://user:Canary@example.com/",
        "https://ex\udcffample.com/Canary",
        "http://[::1/Canary",
    ],
)
def test_bad_addresses(shell: NightShell, tmp_path: Path, url: str) -> None:
    """An address that cannot be is exit 2 before the database is looked at, and is not repeated: it may be a secret."""
    there = {"PAYCLI_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
    for options in ((), ("--self-test",)):
        run = shell.paycli("alerts", "--webhook", url, *options, **SIGNED, **there)
        assert (run.code, run.out) == (2, "")
        assert run.err.startswith("error: the webhook's address ")
        assert run.err.endswith("Nothing was sent.\n")
        assert "Canary" not in run.err


@pytest.mark.parametrize("secret", ["", "CanaryShort", " CanaryWithASpaceBefore"])
@pytest.mark.parametrize("options", [(), ("--self-test",)])
def test_secrets_that_are_none(shell: NightShell, secret: str, options: tuple[str, ...]) -> None:
    """Without a usable secret nothing is sent: exit 2 names the variable, never its value (F153, S24)."""
    with http_server(200) as (base, arrived):
        run = shell.paycli("alerts", "--webhook", base, *options, PAYCLI_WEBHOOK_SECRET=secret)
    assert (run.code, run.out, arrived) == (2, "", [])
    assert run.err.startswith("error: PAYCLI_WEBHOOK_SECRET must be ")
    assert "Canary" not in run.err


def test_a_secret_is_needed_only_for_a_webhook(shell: NightShell) -> None:
    """Without --webhook no secret is asked for, and the one in the environment is not looked at."""
    assert shell.paycli("alerts", PAYCLI_WEBHOOK_SECRET="short").code == 1
