"""What a webhook hears of alerts: each cause once until it changes or clears, and once that it has cleared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_client import State
from gateway_client.finding import Code
from tests.kit import START
from tests.nightly import DATABASES
from tests.nightly_facts import HOUR, SECOND, plant, plant_finding
from tests.nightly_shell import NightShell, night_shell
from tests.test_webhook import http_server

SIGNED = {"PAYCLI_WEBHOOK_SECRET": "whsec_CanaryOfTheCoalMine4242"}
AGAIN = "the webhook was told before\n"


@pytest.fixture(params=DATABASES)
def shell(request: pytest.FixtureRequest) -> Iterator[NightShell]:
    with night_shell(request.param) as made:
        yield made


def heard(shell: NightShell, code: int, *options: str, answer: int = 200) -> tuple[list[str], list[str]] | None:
    """What arrives of one `paycli alerts`: causes, and causes that are over; None when nothing is sent."""
    with http_server(answer) as (base, arrived), pytest.MonkeyPatch.context() as patch:
        # The port is chance: all calls of a test are to one receiver.
        patch.setattr("reconcile.store.told.receiver_of", lambda url: "receiver")
        run = shell.paycli("alerts", "--webhook", base, *options, **SIGNED)
    assert run.code == code, run.err
    if not arrived:
        return None
    (_, _, body) = arrived[-1]
    sent: dict[str, Any] = json.loads(body)
    return [one["cause"] for one in sent["alerts"]], sent["cleared"]


def test_told_once_until_it_clears(shell: NightShell) -> None:
    """One delivery for a cause however often it is looked at, and one when it is over; every call prints it."""
    assert heard(shell, 1) == (["not_reconciled"], [])
    for _ in range(3):
        assert heard(shell, 1) is None
    assert shell.paycli("alerts").out.startswith("not_reconciled: ")
    assert shell.reconcile().code == 0
    assert heard(shell, 0) == ([], ["not_reconciled"])
    assert heard(shell, 0) is None
    shell.clock.advance(hours=26, seconds=1)
    assert heard(shell, 1) == (["not_reconciled"], [])


def test_told_again_when_it_changes(shell: NightShell) -> None:
    """More rows, another row in the place of one, and another severity are told; fewer rows are not."""
    shell.reconcile()
    plant_finding(shell, Code.STATUS_MISMATCH, "order_1", START - 30 * HOUR)
    assert heard(shell, 1) == (["status_mismatch"], [])
    plant_finding(shell, Code.STATUS_MISMATCH, "order_2", START - 40 * HOUR)
    assert heard(shell, 1) == (["status_mismatch"], [])  # more
    shell.sql("UPDATE paycli_findings SET closed_at = found_at WHERE intent_id = 'order_2'")
    assert heard(shell, 1) is None  # fewer
    plant_finding(shell, Code.STATUS_MISMATCH, "order_3", START - 50 * HOUR)
    assert heard(shell, 1) == (["status_mismatch"], [])  # more than were left
    shell.sql("UPDATE paycli_findings SET closed_at = found_at WHERE intent_id = 'order_3'")
    plant_finding(shell, Code.STATUS_MISMATCH, "order_4", START - 25 * HOUR)
    assert heard(shell, 1) == (["status_mismatch"], [])  # as many, and a younger one
    shell.sql("UPDATE paycli_findings SET charged = ? WHERE intent_id = 'order_4'", (True,))
    assert heard(shell, 1) == (["status_mismatch"], [])  # critical
    assert heard(shell, 1) is None
    shell.sql("UPDATE paycli_findings SET closed_at = found_at")
    plant_finding(shell, Code.DUPLICATE_CHARGE, "order_5", START)
    assert heard(shell, 1) == (["duplicate_charge"], ["status_mismatch"])


def test_an_older_row_in_the_place_of_another(shell: NightShell) -> None:
    """C3: an older charge that comes into a state as another one leaves it is told, though they are as many."""
    shell.reconcile()
    now = shell.clock.now
    plant(shell, "order_2", State.UNKNOWN, now - 30 * HOUR)
    plant(shell, "order_1", State.PROCESSING, now - 40 * HOUR)
    assert heard(shell, 1) == (["pending_unknown"], [])
    shell.sql("UPDATE pending_charges SET state = 'canceled' WHERE intent_id = 'order_2'")
    shell.sql("UPDATE pending_charges SET state = 'unknown' WHERE intent_id = 'order_1'")
    assert heard(shell, 1) == (["pending_unknown"], [])
    assert heard(shell, 1) is None


def test_what_did_not_arrive_was_not_told(shell: NightShell) -> None:
    """A failed delivery, of a cause or of its end, is made up for by the next one."""
    before = shell.dump()
    heard(shell, 3, answer=404)
    assert shell.dump() == before
    assert heard(shell, 1) == (["not_reconciled"], [])
    shell.reconcile()
    heard(shell, 3, answer=404)
    assert heard(shell, 0) == ([], ["not_reconciled"])


def test_repeat_after(shell: NightShell) -> None:
    """With --repeat-after what still lasts is told again after that time, to the second."""
    repeat = ("--repeat-after", "1h")
    assert heard(shell, 1, *repeat) == (["not_reconciled"], [])
    shell.clock.advance(seconds=HOUR.total_seconds() - SECOND.total_seconds())
    assert heard(shell, 1, *repeat) is None
    shell.clock.advance(seconds=1)
    assert heard(shell, 1, *repeat) == (["not_reconciled"], [])
    assert heard(shell, 1, *repeat) is None
    assert shell.paycli("alerts", "--repeat-after", "often").code == 2


def test_each_receiver_is_told(shell: NightShell) -> None:
    """What one receiver was told another one has not heard; no address is kept."""
    for _ in range(2):
        with http_server(200) as (base, arrived):
            first = shell.paycli("alerts", "--webhook", base, **SIGNED)
            second = shell.paycli("alerts", "--webhook", base, **SIGNED)
        assert (first.code, first.err, second.code, second.err) == (1, "delivered to the webhook\n", 1, AGAIN)
        assert len(arrived) == 1
    assert "127.0.0.1" not in str(shell.sql("SELECT receiver FROM paycli_told_alerts"))
