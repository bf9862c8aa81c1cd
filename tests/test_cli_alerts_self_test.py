"""`paycli alerts --self-test`: whether somebody would hear of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from tests.nightly import DATABASES
from tests.nightly_shell import NO_KEY, NightShell, night_shell
from tests.test_cli_alerts import alerts_in
from tests.test_webhook import http_server

SECRET = "whsec_CanaryOfTheCoalMine4242"
SIGNED = {"PAYCLI_WEBHOOK_SECRET": SECRET}
FIELDS = "cause severity count since intent_id message".split()
CLOSED = "http://127.0.0.1:1"
PATH = "/hooks/CanaryInThePath"
TRIES = 4


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        made.env |= {"PAYCLI_WEBHOOK_SECRET": ""}
        yield made


NOWHERE = {"PAYCLI_DATABASE_URL": "sqlite:////no/such/folder/store.db", **NO_KEY}


def test_self_test(shell: NightShell) -> None:
    """One test alert arrives, signed, with the fields of any other; exit 0. It needs no database and no key."""
    with http_server(200) as (base, arrived):
        run = shell.paycli("alerts", "--webhook", base, "--self-test", **SIGNED, **NOWHERE)
    ((_, headers, body),) = arrived
    assert (run.code, run.out, run.err) == (0, "", "the test alert was delivered\n")
    assert stripe.WebhookSignature.verify_header(body, headers["Paycli-Signature"], SECRET)
    message = "a test of paycli alerts: nothing is wrong"
    assert alerts_in(body) == [dict(zip(FIELDS, ["self_test", "warning", 1, None, None, message], strict=True))]


@pytest.mark.parametrize("statuses", [(500,) * TRIES, (307,), ()])
def test_self_test_not_delivered(shell: NightShell, statuses: tuple[int, ...]) -> None:
    """A test alert that does not arrive is exit 3."""
    with http_server(*statuses) as (base, arrived):
        url = (base if statuses else CLOSED) + PATH
        run = shell.paycli("alerts", "--webhook", url, "--self-test", **SIGNED, **NOWHERE)
    assert (run.code, run.out, len(arrived)) == (3, "", len(statuses))
    assert "not delivered" in run.err


def test_self_test_needs_a_webhook(shell: NightShell) -> None:
    """Without --webhook there is nothing to test: exit 2."""
    run = shell.paycli("alerts", "--self-test", **SIGNED)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("error: --self-test: needs --webhook")
