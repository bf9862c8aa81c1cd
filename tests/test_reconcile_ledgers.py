"""Whole ledgers, drawn at random: the nightly run finds exactly what was planted, and moves no money."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway_client.gateways import stripe_api
from reconcile import flow
from reconcile.store import findings, items, repairs
from tests.nightly import DATABASES, Night, night
from tests.nightly_cases import AGREE, CASES, DISAGREE, make_all, of_intent, states, thrice

FOREIGN: dict[str, dict[str, str] | None] = {
    "no metadata": None,
    "another system": {"order": "1"},
    "another namespace": {"namespace": "shop"},
    "another key": {"key": "pc1_" + "a" * 52},
    "no attempt": {"attempt": "0"},
}
PECULIAR = ["", "'", '"; --', "%", "_", "\\", "A", "a", " x", "~" * 90]
"""What an intent id may hold, and a statement may stumble over."""

kinds = st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=25)
strangers = st.lists(st.sampled_from(sorted(FOREIGN)), max_size=5)
sizes = st.sampled_from([1, 2, 3, 20])
databases = st.sampled_from(DATABASES)


@contextmanager
def pages(rows: int) -> Iterator[None]:
    """What is read from the store in pages is read in pages of so many rows, the provider's lists in larger ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stripe_api, "PAGE_ROWS_MAX", 5 * rows)
        patch.setattr(items, "PAGE_ROWS_MAX", rows)
        patch.setattr(findings, "PAGE_ROWS_MAX", rows)
        patch.setattr(flow, "LOOKED_UP_AT_ONCE_MAX", rows)
        patch.setattr(repairs, "CLOSED_AT_ONCE_MAX", rows)
        yield


def stranger(dark: Night, kind: str, beside: str) -> None:
    """A charge that is not ours, whatever it claims: of an amount that nothing of ours has."""
    changes = FOREIGN[kind]
    if kind in ("no metadata", "another system"):
        dark.stranger_pays(777, metadata=changes)
    else:
        dark.stranger_pays(
            777, metadata=dark.claims(beside) | {f"paycli_{name}": value for name, value in (changes or {}).items()}
        )


def check(dark: Night, planted: dict[str, str], foreign: list[str]) -> None:
    """Make both ledgers, reconcile, and compare all that was found with all that was planted."""
    cases = {intent_id: CASES[kind] for intent_id, kind in planted.items()}
    make_all(dark, cases)
    for kind in foreign:
        stranger(dark, kind, next(iter(planted)))
    result = thrice(dark)
    found = {intent_id: (of_intent(result, intent_id), states(dark, intent_id)) for intent_id in cases}
    assert found == {intent_id: (sorted(case.found), case.after) for intent_id, case in cases.items()}
    assert len(result.findings) == sum(len(case.found) for case in cases.values())
    counts = (result.provider_charges - len(foreign), result.matched, result.foreign)
    each = cases.values()
    assert counts == (sum(case.listed for case in each), sum(case.matched for case in each), len(foreign))


# A failure is told at once, with everything that was planted: shrinking it would take minutes.
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(database=databases, kinds=kinds, suffix=st.sampled_from(PECULIAR), foreign=strangers, rows=sizes)
def test_random_ledgers(database: str, kinds: list[str], suffix: str, foreign: list[str], rows: int) -> None:
    """Exactly the planted disagreements are found, by code and intent; all charges are counted (S14, S15, F142)."""
    with night(database) as dark, pages(rows):
        check(dark, {f"{number} {kind}{suffix}": kind for number, kind in enumerate(kinds)}, foreign)


@pytest.mark.parametrize("kind", DATABASES)
def test_everything_at_once(kind: str) -> None:
    """One night of every shape that both ledgers can have together, read row by row (S14, S15, F142)."""
    with night(kind) as dark, pages(1):
        check(dark, {kind: kind for kind in CASES}, sorted(FOREIGN))


def test_tables_hold_every_code() -> None:
    """The shapes that are drawn from make every code that a run may find."""
    made = {found.partition("/")[0] for case in DISAGREE.values() for found in case.found}
    assert made == {
        "outcome_recovered",
        "missing_locally",
        "missing_at_provider",
        "duplicate_charge",
        "amount_mismatch",
        "currency_mismatch",
        "status_mismatch",
        "stale_pending",
    }
    assert not AGREE.keys() & DISAGREE.keys()
