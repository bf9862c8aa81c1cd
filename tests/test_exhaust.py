"""The exhaustive search, in the small: its figures, and that it can fail. `make exhaust` is the whole of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any, cast

import pytest

from gateway_client.flow import charging
from gateway_client.flow.asking import Setup
from gateway_client.flow.effects import Begun, Flow, Send
from gateway_client.gateways import stripe_api
from gateway_client.gateways.stripe import Stripe
from gateway_client.outcome import Answer, Rejected
from tests.exhaust import actors, checks
from tests.exhaust.scenario import SCENARIOS, Report, Scenario, explore

ONE_WORKER = {"workers": 1, "faults_max": 1}
CALM = {"faults_max": 0}


def bounded(name: str, bounds: dict[str, Any]) -> Scenario:
    return replace(SCENARIOS[name], **bounds)


def behaviour(report: Report) -> tuple[object, ...]:
    """What does not depend on what is taken for one state."""
    found = report.found
    return found.paths, found.deepest, len(found.ends), report.left, report.healed, report.check


def came_to(report: Report) -> tuple[str, frozenset[str], frozenset[str]]:
    """How a search ended: what did not hold, how ends were left, what they came to."""
    return report.check, frozenset(report.left), frozenset(report.healed)


def test_a_charge_by_one_worker_and_the_reconciler_with_one_fault() -> None:
    """F01–F08, F22, F26, F28, F37, F38, F40, F113: every path is walked, and every end heals to the truth."""
    report = explore(bounded("charge", ONE_WORKER))
    assert came_to(report) == (
        "",
        frozenset(
            {
                "succeeded here, charged there",
                "no row here, nothing there",
                "prepared here, nothing there",
                "rejected here, charged there",
                "sending here, charged there",
                "sending here, nothing there",
                "unknown here, charged there",
                "unknown here, nothing there",
            }
        ),
        frozenset(
            {
                "succeeded as it was left",
                "succeeded at once",
                "rejected as it was left, 1 findings open",
                "absent after 101 h",
                "canceled after 101 h",
                "no row as it was left",
            }
        ),
    )
    assert report.found.states > 3000


def test_a_row_past_its_keys_life_with_one_worker_the_reconciler_and_one_fault() -> None:
    """S5, S16: it is never sent again, and absent only when the provider has nothing and it was quiet."""
    report = explore(bounded("over", ONE_WORKER))
    assert came_to(report) == (
        "",
        frozenset({"sending here, nothing there", "succeeded here, charged there"}),
        frozenset({"absent after 101 h", "succeeded as it was left"}),
    )


def test_a_charge_that_was_given_up_with_one_worker_the_reconciler_and_one_fault() -> None:
    """S16: when it is quiet, whoever reads the lists first proves it absent, and only when the provider has nothing."""
    report = explore(bounded("given up", ONE_WORKER))
    assert came_to(report) == (
        "",
        frozenset({"absent here, nothing there", "succeeded here, charged there"}),
        frozenset({"absent as it was left", "succeeded as it was left"}),
    )


def test_an_intent_that_was_left_uncharged_with_one_worker_the_reconciler_and_one_fault() -> None:
    """A9, S8: whoever finds it first, it is cancelled once at the provider, and the row is `canceled` only then."""
    report = explore(bounded("uncharged", ONE_WORKER))
    assert came_to(report) == (
        "",
        frozenset({"canceled here, nothing there", "unknown here, nothing there"}),
        frozenset({"canceled as it was left", "canceled at once"}),
    )


def test_the_next_attempt_after_a_refusal_of_one_delivery() -> None:
    """S1, S6: a second attempt is sent only when the provider shows nothing of the first, whatever was answered."""
    report = explore(bounded("next", ONE_WORKER))
    assert report.check == ""
    assert {left.partition(",")[2] for left in report.left} == {" charged there", " nothing there"}


def test_two_workers_and_the_reconciler_without_a_fault() -> None:
    """S1, L1, F16, F111: whatever the order of steps, the intent is charged once and nothing is left pending."""
    report = explore(bounded("charge", CALM))
    assert came_to(report) == (
        "",
        frozenset({"succeeded here, charged there"}),
        frozenset({"succeeded as it was left"}),
    )
    assert report.found.states > 2500


def test_a_claim_that_begins_the_first_send_with_one_fault() -> None:
    """F01–F05: a process that has met the provider leaves no `prepared` row, and every end heals to the truth."""
    report = explore(bounded("met", ONE_WORKER))
    assert report.check == ""
    assert "prepared here, nothing there" not in report.left
    assert {"no row here, nothing there", "sending here, nothing there"} < set(report.left)
    assert report.found.states > 3000


@pytest.mark.parametrize(("name", "bounds"), [("charge", ONE_WORKER), ("over", ONE_WORKER)])
def test_flows_that_stand_alike_are_alike(name: str, bounds: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """To take them for one changes how many states there are, and nothing else: not one path, not one end."""
    merged = explore(bounded(name, bounds))
    numbers = count()
    monkeypatch.setattr(actors, "mark", lambda flow: str(next(numbers)))
    apart = explore(bounded(name, bounds))
    assert behaviour(merged) == behaviour(apart)
    assert merged.found.states < apart.found.states


def test_a_timeout_taken_for_a_failure_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """S8, and the shortest way there is told."""
    monkeypatch.setattr(stripe_api, "not_answered", lambda reply: Rejected("no answer"))
    report = explore(bounded("charge", {}))
    assert (report.check, report.steps) == (
        "S8: the row is rejected: nobody can know that by now",
        (
            "provider: nothing is there",
            "reconciler: GET /v1/account",
            "reconciler: OpenRun",
            "reconciler: ForgetRuns",
            "worker 1: Claim",
            "worker 1: GET /v1/account",
            "worker 1: BeginSend",
            "worker 1: a send is answered: refused",
            "worker 1: Settle",
        ),
    )


def test_two_keys_charge_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """S1 is looked at by itself: it breaks when each send has a key of its own, and nobody compares them."""

    def with_a_key_of_its_own(setup: Setup, begun: Begun) -> Flow[Answer]:
        key = f"{begun.charge.idempotency_key}{begun.send_no}"
        gateway = cast("Stripe", setup.gateway)
        reply = yield from Send(gateway.charge_request(begun.body, key, begun.api_version), begun)
        return gateway.read_charge(reply, setup.expected(begun.charge))

    monkeypatch.setattr(charging, "_send", with_a_key_of_its_own)
    monkeypatch.setattr(checks.Checks, "send", lambda *others: None)
    monkeypatch.setattr(checks, "sent_alike", lambda known: None)
    report = explore(bounded("charge", CALM))
    assert report.check == "S1: the intent was charged 2 times"
