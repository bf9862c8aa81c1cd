"""The process that the demo kills: it charges its share in two halves and waits for a word in between.

Started as `python -m cli.demo_child`; the key, the provider and the database come by environment, as for `paycli`.
"""

from __future__ import annotations

import signal
import sys

from cli import demo_load
from cli.settings import read_settings
from gateway_client import PaymentIntent, Stripe

AT_ONCE = 4


def _charge(halves: list[list[PaymentIntent]]) -> None:
    with demo_load.client(Stripe.from_env(), read_settings().database_url) as opened:
        for half in halves:
            demo_load.charge_all(opened, half, AT_ONCE, lambda charge: None)
            sys.stdout.write("half\n")
            sys.stdout.flush()
            if not sys.stdin.readline():
                return  # the parent is gone


def main(count: int, first: int, middle: int) -> None:
    """Charge the intents from `first` to `middle`, and after a word from `middle` to `count`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    every = demo_load.intents(count)
    _charge([every[first:middle], every[middle:]])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
