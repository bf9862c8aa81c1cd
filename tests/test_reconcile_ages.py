"""How long a charge may be pending before a night flags it: an age for each state."""

from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import pytest

import reconcile
from gateway_client import Client, State
from reconcile.ages import every
from tests.nightly import DATABASES, Night, codes, night
from tests.nightly_cases import prepared
from tests.nightly_facts import causes
from tests.nightly_shell import night_shell


@pytest.fixture(params=DATABASES)
def dark(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def test_a_debit_takes_days(dark: Night) -> None:
    """C3: a bank debit on its way is neither flagged nor alerted for seven days, then both, until it has ended."""
    dark.sandbox.settles_after_s = 30 * 86400.0
    assert dark.pay("a", "pm_usBankAccount").state is State.PROCESSING
    for _ in range(7):
        dark.clock.advance(hours=24)
        assert (codes(dark.run()), causes(dark) - {"days_missed"}) == (set(), set())  # only today is reconciled here
    dark.clock.advance(seconds=1)
    assert codes(dark.run()) == {("stale_pending", "a")}
    assert causes(dark) - {"days_missed"} == {"pending_processing"}
    assert causes(dark, dark.clock.now + timedelta(days=2)) >= {"pending_processing", "stale_pending"}


def test_another_state_may_last_longer(dark: Night) -> None:
    """C3: what was in doubt for too long and is now a debit on its way is stale no more: its finding closes."""
    dark.sandbox.settles_after_s = 30 * 86400.0
    dark.doubt("a", payment_method="pm_usBankAccount")
    dark.sandbox.fault("unavailable_503", times=6, on="GET /v1/payment_intents")
    dark.clock.advance(hours=24, seconds=1)
    assert not dark.run().complete
    assert dark.sql("SELECT code, closed_at FROM paycli_findings") == [("stale_pending", None)]
    dark.run()
    assert dark.state("a") is State.PROCESSING
    closed = dark.sql("SELECT because FROM paycli_findings WHERE code = 'stale_pending'")
    assert closed == [("it is no longer pending for too long",)]


@pytest.mark.parametrize("by", ["option", "variable"])
def test_ages_from_the_shell(by: str) -> None:
    """C3: `paycli reconcile` flags by the ages that it is given, for all states or for one."""
    with night_shell("sqlite") as shell:
        prepared(shell, "a")
        shell.clock.advance(hours=2)
        for age, code in (("3h", 0), ("1h,prepared=3h", 0), ("prepared=1h", 1)):
            ages = [word for one in age.split(",") for word in ("--older-than", one)] if by == "option" else []
            env = {"PAYCLI_OLDER_THAN": age} if by == "variable" else {}
            assert shell.paycli("reconcile", "--date", "today", *ages, **env).code == code


def test_ages_of_a_run(dark: Night) -> None:
    """C3: a program gives the ages that it wants to the run."""
    prepared(dark, "a")
    dark.clock.advance(hours=2)
    client = cast("Client", dark.open_client())
    assert reconcile.run(client, dark.today, ages=every(timedelta(hours=2))).flagged == 0
    assert reconcile.run(client, dark.today, ages=every(timedelta(hours=1))).flagged == 1
