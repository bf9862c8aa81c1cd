"""The published bounds: Stripe's numbers, and every derived length equal to the sum that is written beside it."""

import re
from dataclasses import fields
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_client import clock, retry
from gateway_client.bounds import Bounds, hours
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.gateways.stripe_bounds import BOUNDS

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)

# The names of the table, as a sum writes them
TERMS = {
    "pruned": "key_pruned_after",
    "hold": "hold",
    "first byte": "first_byte",
    "execution": "execution",
    "clock tolerance": "clock_tolerance",
    "list lag": "list_lag",
    "roll-forward": "roll_forward",
    "quiet time": "quiet",
}
DERIVED = {
    "key life": "key_life",
    "quiet time": "quiet",
    "quiet time, unproven": "quiet_unproven",
    "look-back": "look_back",
    "look-ahead": "look_ahead",
}


def rows(bounds: Bounds) -> list[list[str]]:
    """The cells of the printed table, without its heads and rules."""
    lines = [line for line in bounds.table().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "is | from" not in line][1:]


def total(written: str, bounds: Bounds) -> timedelta:
    """What a written sum comes to: "hold + 2 × clock tolerance"."""
    terms = re.findall(r"([+−]?)\s*(?:(\d+) × )?([a-z][a-z -]*[a-z])", written)
    assert "".join("".join(term) for term in terms).replace(" ", "") == re.sub(r"[ ×]", "", written), written
    lengths = [
        (-1 if sign == "−" else 1) * int(times or 1) * getattr(bounds, TERMS[name]) for sign, times, name in terms
    ]
    return sum(lengths, timedelta(0))


def test_stripe_s_numbers() -> None:
    """Stripe's bounds are the published ones."""
    assert PROFILE.bounds is BOUNDS
    assert (
        Bounds(
            key_pruned_after=24 * HOUR,
            hold=HOUR,
            first_byte=10 * SECOND,
            execution=90 * SECOND,
            clock_tolerance=5 * MINUTE,
            list_lag=2 * HOUR,
            roll_forward=72 * HOUR,
        )
        == BOUNDS
    )


def test_what_is_derived_for_stripe() -> None:
    """The lengths that the documents name, to the second."""
    assert {name: hours(getattr(BOUNDS, attribute)) for name, attribute in DERIVED.items()} == {
        "key life": "22:49:50",
        "quiet time": "3:11:40",
        "quiet time, unproven": "75:11:40",
        "look-back": "0:15:00",
        "look-ahead": "0:10:00",
    }


def test_others_keep_to_the_same_numbers() -> None:
    """The wire's patience for a first byte and the tolerance of our clock are what the bounds say of them."""
    assert BOUNDS.first_byte.total_seconds() == retry.BEGUN_S_MAX
    assert BOUNDS.clock_tolerance == clock.OFFSET_MAX


def test_a_key_is_not_sent_when_it_may_be_pruned_on_its_way() -> None:
    """A last send that is late by all that the model allows still reaches the provider before its key is pruned."""
    latest = BOUNDS.key_life + BOUNDS.first_byte + BOUNDS.hold + 2 * BOUNDS.clock_tolerance
    assert latest == BOUNDS.key_pruned_after


def test_quiet_is_longer_than_a_send_can_take() -> None:
    """What any send has done is listed before a quiet time is over, and what a 500 left behind before the longer."""
    executed = BOUNDS.first_byte + BOUNDS.hold + BOUNDS.execution
    assert executed + BOUNDS.list_lag + 2 * BOUNDS.clock_tolerance == BOUNDS.quiet
    rolled_forward = executed + BOUNDS.roll_forward + BOUNDS.list_lag + 2 * BOUNDS.clock_tolerance
    assert rolled_forward == BOUNDS.quiet_unproven


LENGTHS = st.integers(0, 10**6).map(lambda seconds: timedelta(seconds=seconds))


@given(st.builds(Bounds, **{field.name: LENGTHS for field in fields(Bounds)}))
def test_every_derived_length_is_its_written_sum(bounds: Bounds) -> None:
    """Whatever the bounds, each derived length of the table is the sum that stands beside it."""
    printed = {name: (length, written) for name, length, written in rows(bounds) if name in DERIVED}
    assert list(printed) == list(DERIVED)
    for name, (length, written) in printed.items():
        assert total(written, bounds) == getattr(bounds, DERIVED[name]), name
        if getattr(bounds, DERIVED[name]) >= timedelta(0):
            assert length == hours(getattr(bounds, DERIVED[name]))


def test_table_prints_every_bound() -> None:
    """The table has a row for each bound, with its length, and one for each length that is derived."""
    printed = [(name, length) for name, length, _ in rows(BOUNDS)]
    given_names = ["a key is pruned", "hold", "first byte", "execution", "clock tolerance", "list lag", "roll-forward"]
    expected = [hours(getattr(BOUNDS, field.name)) for field in fields(Bounds)]
    assert printed[: len(given_names)] == list(zip(given_names, expected, strict=True))
    assert [name for name, _ in printed[len(given_names) :]] == list(DERIVED)
    properties = {name for name, value in vars(Bounds).items() if isinstance(value, property)}
    assert properties == set(DERIVED.values())


@pytest.mark.parametrize(
    ("length", "words"), [(0 * SECOND, "0:00:00"), (90 * SECOND, "0:01:30"), (72 * HOUR, "72:00:00")]
)
def test_lengths_in_words(length: timedelta, words: str) -> None:
    """A length is hours, minutes and seconds; hours do not turn into days."""
    assert hours(length) == words
