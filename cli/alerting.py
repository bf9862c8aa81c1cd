"""The command for cron: alerts, printed, and sent to a webhook. When there is one is `reconcile/alerts.py`'s to say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.ages import OlderThan, duration, read_limits
from cli.charging import Json
from cli.settings import open_store, read_settings

if TYPE_CHECKING:
    from gateway_client.db import Database
    from reconcile.alerts import Alert, Limits

SECRET = "PAYCLI_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable


def alerts(
    older_than: OlderThan = None,
    reconcile_older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long ago the last complete reconciliation may be: 26h.")
    ] = None,
    findings_older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long a finding may be open, unless it is critical: 24h.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help=f"POST them there, signed with {SECRET}; https.")
    ] = None,
    repeat_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Tell the webhook again of what still lasts after this time.")
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Send one test alert to --webhook, and look at nothing else.")
    ] = False,
    as_json: Json = False,
) -> int:
    """One line for each cause to look into; for cron. It asks nobody but the database.

    A webhook is told of each cause once, again when it gets worse, and once when it is over.

    Exit code: 0 nothing; 1 there are alerts; 3 they could not be delivered, or the database could not be read.
    """
    from gateway_client import InvalidInput
    from reconcile.alerts import Alert

    limits = read_limits(older_than, findings_older_than, reconcile_older_than)
    again = None if repeat_after is None else duration("--repeat-after", repeat_after)
    if webhook is not None:
        _check(webhook)
    if self_test:
        if webhook is None:
            raise InvalidInput("--self-test", "needs --webhook: it tests that an alert arrives there")
        _deliver(webhook, [Alert("self_test", 1, None, None, "a test of paycli alerts: nothing is wrong")])
        output.say("the test alert was delivered")
        return 0
    now = datetime.now(UTC)
    with closing(open_store(read_settings())) as database:
        found = causes(database, now, limits)
        try:
            for alert in found:
                if as_json:
                    output.json_line(alert.as_json())
                else:
                    output.data(f"{alert.cause}: {alert.message}")
        finally:  # a full disk under the log is no reason to wake nobody
            if webhook is not None:
                _tell(database, webhook, found, now, again)
    if not found:
        output.say("nothing to look into")
    return 1 if found else 0


def causes(database: Database, now: datetime, limits: Limits | None = None) -> tuple[Alert, ...]:
    """What somebody must look into, as the store is now."""
    from gateway_client.gateways.stripe_bounds import BOUNDS
    from reconcile.alerts import Limits, alerts
    from reconcile.store.alerts import read_facts

    within = limits or Limits()
    facts = database.transact(lambda tx: read_facts(tx, now, within, BOUNDS.key_life), write=False)
    return alerts(facts, within)


def _tell(database: Database, webhook: str, found: Sequence[Alert], now: datetime, again: timedelta | None) -> None:
    """Deliver what the receiver has not heard yet; it is remembered when it has arrived, never before."""
    from reconcile.store.told import read_told, receiver_of, remember
    from reconcile.told import news

    receiver = receiver_of(webhook)
    told = database.transact(lambda tx: read_told(tx, receiver), write=False)
    fresh = news(found, told, now, again)
    if fresh.any:
        _deliver(webhook, fresh.alerts, fresh.cleared)
        output.say("delivered to the webhook")
    elif found:
        output.say("the webhook was told before")
    if set(fresh.remembered) != set(told.values()):
        database.transact(lambda tx: remember(tx, receiver, fresh))


def _check(webhook: str) -> None:
    from reconcile.webhook import check_secret, check_url

    check_url(webhook)
    check_secret(os.environ.get(SECRET, ""))


def _deliver(webhook: str, found: Sequence[Alert], cleared: Sequence[str] = ()) -> None:
    from gateway_client.clock import SystemClock
    from reconcile.webhook import deliver

    lines = [alert.as_json() for alert in found]
    deliver(webhook, os.environ.get(SECRET, ""), lines, cleared, clock=SystemClock())
