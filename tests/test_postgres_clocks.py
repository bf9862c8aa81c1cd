"""Which clock judges: a key's life is over when the provider's clock or the database's says so.

Not here: leases (`test_leases.py`) and the hold of a run (`test_postgres_nights.py`).
"""

from datetime import timedelta

import pytest

from gateway_client import State
from tests.kit import BOUNDS, ONE_SEND, ORDER
from tests.pg_shop import KINDS, Shop

LIFE = BOUNDS.key_life


def in_doubt(shop: Shop, sent_ago: timedelta) -> None:
    """A charge whose first send has no answer; by the database's clock it was made that long ago."""
    shop.sandbox.fault("lost_reply")
    assert shop.client(retry=ONE_SEND).charge(ORDER).state is State.UNKNOWN
    shop.sql(
        "UPDATE pending_charges SET first_sent_db_at = clock_timestamp() - :ago WHERE intent_id = :it",
        ago=sent_ago,
        it=ORDER.intent_id,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_over_when_the_database_says_so(kind: str) -> None:
    """F95: a host that has lost hours of time, whatever its provider's Date says, sends no key that is too old."""
    with Shop(kind) as shop:
        in_doubt(shop, LIFE)
        charge = shop.client().charge(ORDER)
        assert (charge.state, charge.sends, charge.closed_at) == (State.SUCCEEDED, 1, shop.clock.now)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_over_when_the_provider_says_so(kind: str) -> None:
    """F95: a database whose clock stands still prolongs no key's life."""
    with Shop(kind) as shop:
        in_doubt(shop, timedelta(0))
        shop.clock.advance(seconds=LIFE.total_seconds())
        charge = shop.client().charge(ORDER)
        assert (charge.state, charge.sends, charge.closed_at) == (State.SUCCEEDED, 1, shop.clock.now)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_sent_while_both_say_that_it_lives(kind: str) -> None:
    """F95: a minute before its end by both clocks, a key is sent again."""
    with Shop(kind) as shop:
        in_doubt(shop, LIFE - timedelta(minutes=1))
        shop.clock.advance(seconds=LIFE.total_seconds() - 60)
        charge = shop.client().charge(ORDER)
        assert (charge.state, charge.sends) == (State.SUCCEEDED, 2)
