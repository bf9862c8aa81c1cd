"""`paycli charge`, `resume` and `cancel` against a sandbox on a port: what they print, and every exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway_client import Client
from tests import postgres
from tests.cli_world import API_KEY, CARD, DATABASES, ON_A_FILE, ROOT, World, world

CHARGE_FIELDS = (
    "intent_id attempt state idempotency_key amount currency provider_intent_id provider_charge_id sends created_at "
    "not_after first_sent_at settled_at leased_by leased_until resume_at reason"
).split()


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, None if request.param == "sqlite" else postgres.shown(postgres.emptied_database())) as made:
        assert made.paycli("init").code == 0
        yield made


def test_charge_succeeds(shell: World) -> None:
    """A charge that succeeds is exit 0, prints exactly the promised fields, and is made once however often it runs."""
    first, again = shell.charge("order_42"), shell.charge("order_42")
    assert (first.code, again.code) == (0, 0)
    assert list(first.objects[0]) == CHARGE_FIELDS
    assert first.objects == again.objects
    assert first.objects[0]["state"] == "succeeded"
    assert first.objects[0]["created_at"].endswith("Z")
    assert shell.sandbox.succeeded() == {"order_42": 1}


def test_charge_for_people(shell: World) -> None:
    """Without --json it says what the charge came to, what that means and what to do next."""
    shell.sandbox.fault("lost_reply")
    run = shell.paycli("charge", "order 42", *CARD)
    assert run.code == 1
    assert run.out.splitlines()[0] == "order 42, attempt 1: unknown"
    assert "19.99 USD" in run.out
    assert "`paycli resume`; it has not failed" in run.out


def test_everything_is_passed_on(shell: World) -> None:
    """Every option reaches the provider as it was given."""
    options = ["--customer", "cus_1", "--off-session", "--description", "two\x85mugs", "--receipt-email", "a@b.example"]
    assert shell.charge("order_1", *options).code == 2  # a control character
    options[4] = "two mugs"
    metadata = ("--metadata", "cart=7", "--metadata", "note=a=b")
    assert shell.charge("order_1", *options, *metadata, "--statement-descriptor-suffix", "MUGS").code == 0
    intent = shell.sandbox.payment_intents[0]
    assert (intent["customer"], intent["description"]) == ("cus_1", "two mugs")
    assert (intent["receipt_email"], intent["statement_descriptor_suffix"]) == ("a@b.example", "MUGS")
    assert {name: intent["metadata"][name] for name in ("cart", "note")} == {"cart": "7", "note": "a=b"}


@ON_A_FILE
def test_other_parameters_are_passed_on(shell: World) -> None:
    """A8: `--param` may be repeated and nested, `--off-session-as` says which kind; what is not passed is exit 2."""
    address = ("--param", "shipping[address][line1]=a=b", "--param", "shipping[name]=Ada")
    more = ("--param", "setup_future_usage=off_session", "--customer", "cus_1", "--off-session-as", "recurring")
    assert shell.charge("order_1", *address, *more).code == 0
    intent = shell.sandbox.payment_intents[0]
    assert (intent["shipping"]["name"], intent["shipping"]["address"]["line1"]) == ("Ada", "a=b")
    assert intent["setup_future_usage"] == "off_session"
    sent = next(one for one in shell.sandbox.requests if one.method == "POST")
    assert ("off_session", "recurring") in sent.params
    for wrong, field in (
        (("--param", "on_behalf_of=acct_2"), "on_behalf_of"),
        (("--param", "shipping[name]"), "param"),
        (("--param", "transfer_group=1", "--param", "transfer_group=2"), "param"),
        (("--param", "transfer_group=4242424242424242"), "transfer_group"),
        (("--off-session-as", "never"), "off_session"),
    ):
        run = shell.charge("order_2", *wrong)
        assert (run.code, run.err.split(":")[1].strip()) == (2, field)
    assert len(shell.sandbox.payment_intents) == 1


def test_declined_then_a_second_attempt(shell: World) -> None:
    """A decline is exit 1; attempt 2 is made when it is named, and succeeds."""
    declined = shell.charge("order_42", "--payment-method", "pm_card_chargeDeclined")
    assert (declined.code, declined.objects[0]["state"]) == (1, "declined")
    second = shell.charge("order_42", "--attempt", "2")
    assert (second.code, second.objects[0]["attempt"]) == (0, 2)


def test_another_payment_is_a_conflict(shell: World) -> None:
    """The same intent id with another amount is exit 2, and nothing is sent."""
    shell.charge("order_42")
    sent = len(shell.sandbox.requests)
    run = shell.charge("order_42", "--amount", "2000")
    assert (run.code, run.out) == (2, "")
    assert "already stands for another payment" in run.err
    assert len(shell.sandbox.requests) == sent


@pytest.mark.parametrize(
    ("amount", "currency", "answer"),
    [
        ("19.99", "usd", "minor units; did you mean 1999?"),
        ("19.9", "usd", "minor units; did you mean 1990?"),
        ("1.500", "kwd", "minor units; did you mean 1500?"),
        ("19.99", "jpy", "JPY allows 0 digits after the point, not 2"),
        ("19.999", "usd", "USD allows 2 digits after the point, not 3"),
        ("1,999", "usd", "must be a whole number of minor units, such as 1999 for 19.99 USD"),
        ("-5", "usd", "must be a whole number of minor units, such as 1999 for 19.99 USD"),
        ("١٩٩٩", "usd", "must be a whole number of minor units, such as 1999 for 19.99 USD"),
        ("0", "usd", "must be more than zero"),
        ("9" * 5000, "usd", "must have at most twelve digits: 999999999999 minor units of USD"),
    ],
)
@ON_A_FILE
def test_bad_amounts(shell: World, amount: str, currency: str, answer: str) -> None:
    """An amount is never guessed: what is not minor units is exit 2, with what was probably meant."""
    run = shell.charge("order_42", "--amount", amount, "--currency", currency)
    assert (run.code, run.err) == (2, f"error: amount: {answer}\n")
    assert shell.sandbox.charges == ()


@pytest.mark.parametrize("metadata", [("novalue",), ("a=1", "a=2"), ("paycli_key=1",)])
@ON_A_FILE
def test_bad_metadata(shell: World, metadata: tuple[str, ...]) -> None:
    """Metadata without a value, with a name twice, or with a name of ours is exit 2."""
    run = shell.charge("order_42", *(part for pair in metadata for part in ("--metadata", pair)))
    assert (run.code, run.err.split(":")[1]) == (2, " metadata")


@ON_A_FILE
def test_key_from_a_file(shell: World) -> None:
    """The key may come from a file; both places at once, neither, an unreadable file and a 401 are exit 2."""
    file = shell.folder / "key"
    file.write_text(API_KEY + "\n")
    file.chmod(0o600)
    assert shell.charge("order_1", STRIPE_API_KEY="", STRIPE_API_KEY_FILE=str(file)).code == 0
    assert shell.charge("order_2", STRIPE_API_KEY_FILE=str(file)).code == 2
    assert shell.charge("order_2", STRIPE_API_KEY="").code == 2
    assert shell.charge("order_2", STRIPE_API_KEY="", STRIPE_API_KEY_FILE=str(file) + "x").code == 2
    shell.sandbox.revoke(API_KEY)
    run = shell.charge("order_2")
    assert run.code == 2
    assert "STRIPE_API_KEY" in run.err
    assert shell.sandbox.succeeded() == {"order_1": 1}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PAYCLI_STRIPE_API_BASE", "http://example.com"),
        ("PAYCLI_STRIPE_API_BASE", "ftp://127.0.0.1"),
        ("PAYCLI_NAMESPACE", "Shop"),
        ("PAYCLI_TIMEOUT_S", "soon"),
        ("PAYCLI_TIMEOUT_S", "601"),
        ("PAYCLI_TIMEOUT_S", "nan"),
        ("PAYCLI_SENDS_MAX", "0"),
        ("PAYCLI_SENDS_MAX", "4.5"),
        ("PAYCLI_SEAL_SECRET", "too-short"),
        ("PAYCLI_SEAL_SECRET", "a-secret-of-the-seal-drawn-by-chance and-a-short-one"),
        ("PAYCLI_PROXY", "proxy.example.com:3128"),
        ("PAYCLI_PROXY", "https://proxy.example.com:3128"),
        ("PAYCLI_PROXY", "http://proxy.example.com:3128"),  # to a provider by plain http
        ("PAYCLI_DATABASE_URL", "paycli.db"),
        ("PAYCLI_DATABASE_URL", "sqlite:///file:paycli.db?uri=true"),
        ("PAYCLI_STRIPE_ACCOUNT", "acme"),
        ("STRIPE_API_KEY", "pk_test_123"),
    ],
)
@ON_A_FILE
def test_bad_settings_are_named(shell: World, variable: str, value: str) -> None:
    """A setting that cannot be is exit 2, and the message names its variable."""
    run = shell.charge("order_42", **{variable: value})
    assert run.code == 2
    assert run.err.startswith(f"error: {variable}")
    assert shell.sandbox.charges == ()


def test_provider_is_down(shell: World) -> None:
    """With nobody at the provider's port a charge is prepared, exit 3; resume is exit 3, and sends it later."""
    down = {"PAYCLI_STRIPE_API_BASE": "http://127.0.0.1:1"}
    run = shell.charge("order_42", **down)
    assert (run.code, run.objects[0]["state"], run.objects[0]["sends"]) == (3, "prepared", 0)
    resumed = shell.paycli("resume", **down)
    assert resumed.code == 3
    assert "Nothing is lost; run resume again." in resumed.err
    assert shell.sandbox.charges == ()
    assert shell.paycli("resume").code == 0
    assert shell.sandbox.succeeded() == {"order_42": 1}


def test_resume(shell: World) -> None:
    """Resume prints each charge it looked at: exit 1 while something is pending, 0 when nothing is."""
    shell.sandbox.fault("lost_request")
    assert shell.charge("order_1").code == 1
    shell.sandbox.fault("lost_reply")
    assert shell.charge("order_2").code == 1
    first = shell.paycli("resume", "--limit", "1", "--json")
    assert (first.code, [row["intent_id"] for row in first.objects]) == (1, ["order_1"])
    second = shell.paycli("resume", "--json")
    assert (second.code, [list(row) for row in second.objects]) == (0, [CHARGE_FIELDS])
    assert second.objects[0]["state"] == "succeeded"
    assert shell.paycli("resume").out == ""
    assert shell.paycli("resume", "--limit", "0").code == 2
    assert shell.sandbox.succeeded() == {"order_1": 1, "order_2": 1}


def test_resume_prints_before_it_fails(shell: World) -> None:
    """Charges that were finished are printed even when the provider then stops answering, exit 3."""
    for number in range(2):
        shell.sandbox.fault("lost_request")
        assert shell.charge(f"order_{number}").code == 1
    shell.sandbox.fault("slow")  # lets the first one through; the script of the second begins after it
    shell.sandbox.slow_s = 0.0
    shell.sandbox.fault("unavailable_503")
    run = shell.paycli("resume", "--json")
    assert (run.code, run.objects[0]["state"]) == (3, "succeeded")


def test_cancel(shell: World) -> None:
    """Cancel is 0 when nothing will be charged; 1, with a sentence, when it is still unknown or has succeeded."""
    down = {"PAYCLI_STRIPE_API_BASE": "http://127.0.0.1:1"}
    shell.charge("order_1", **down)
    canceled = shell.paycli("cancel", "order_1", "--because", "changed their mind", "--json")
    assert (canceled.code, canceled.objects[0]["state"]) == (0, "canceled")
    shell.charge("order_2")
    succeeded = shell.paycli("cancel", "order_2", "--because", "too late")
    assert succeeded.code == 1
    assert "the money moved" in succeeded.err
    shell.sandbox.fault("lost_request")
    shell.charge("order_3")
    closed = shell.paycli("cancel", "order_3", "--because", "given up", "--json")
    assert (closed.code, closed.objects[0]["state"]) == (1, "unknown")
    assert "an earlier send may have charged it" in closed.err
    assert shell.paycli("cancel", "order_9", "--because", "x").code == 2
    assert shell.paycli("cancel", "order_1", "--because", "\x1b[2J").code == 2


def test_late_success_needs_a_person(shell: World) -> None:
    """An attempt that was declined here and succeeded there stops the next one, exit 1."""
    declined = shell.charge("order_42", "--payment-method", "pm_card_chargeDeclined").objects[0]
    confirm = f"{shell.server.url}/v1/payment_intents/{declined['provider_intent_id']}/confirm"
    answer = httpx.post(
        confirm,
        headers={"Authorization": f"Bearer {API_KEY}"},
        data={"payment_method": "pm_card_visa"},
        trust_env=False,
    )
    assert answer.status_code == 200
    run = shell.charge("order_42", "--attempt", "2")
    assert (run.code, run.out) == (1, "")
    assert "the customer has paid" in run.err


@ON_A_FILE
def test_read_only_database(shell: World) -> None:
    """A database that cannot be written stops a charge before it is sent, exit 3."""
    shell.charge("order_1")
    content = bytearray(shell.path.read_bytes())
    content[18] = 9  # the file format's "write version": above what SQLite knows, it opens the file read-only
    shell.path.write_bytes(content)
    run = shell.charge("order_42")
    assert run.code == 3
    assert "it is read-only" in run.err
    assert shell.sandbox.succeeded() == {"order_1": 1}
    assert shell.paycli("show", "order_1").code == 0


def test_interrupted(shell: World) -> None:
    """Ctrl-C in the middle of a charge is exit 3 with a sentence, and resume finds the charge."""
    shell.sandbox.slow_s = 2.0
    shell.sandbox.fault("slow")
    arguments, env = shell.command("charge", "order_42", *CARD)
    child = subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with child:
        deadline = time.monotonic() + 20
        while not any(request.method == "POST" for request in shell.sandbox.requests):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (3, "")
    assert err.startswith("interrupted; what was begun is on disk: run this command again")
    shell.sandbox.clock.advance(3)
    assert shell.paycli("resume").code == 0
    assert shell.sandbox.succeeded() == {"order_42": 1}


def test_drivers_talk_to_nobody() -> None:
    """What the database's driver logs of a lost connection is not for people: `paycli` says it in a sentence of its
    own, and nothing else is on stderr."""
    script = """
import logging
from contextlib import suppress
from cli.main import run
with suppress(SystemExit):
    run()
logging.getLogger("psycopg").warning("error ignored terminating <psycopg.Pipeline …>")
logging.getLogger("sqlalchemy.pool.impl.QueuePool").error("Exception during reset or similar", exc_info=True)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, "states"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert (ran.stderr, ran.stdout[:7]) == ("", "pending")


def test_a_bug_shows_no_values(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception says where it happened, without its message or any variable, exit 1."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"with {API_KEY} in it")

    monkeypatch.setattr(Client, "charge", broken)
    run = shell.charge("order_42")
    assert run.code == 1
    assert run.err.startswith("error: internal error, RuntimeError; this is a bug.")
    assert "tests/test_cli.py" in run.err
