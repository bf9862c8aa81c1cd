"""Map each effect of a run to its function."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from sqlalchemy.orm import Session

from gateway_client.flow.effects import T
from reconcile.effects import (
    Adopt,
    CloseOver,
    CloseStale,
    Count,
    EndRun,
    Flag,
    FlagDuplicates,
    FlagStale,
    ForgetRuns,
    Import,
    KeepItem,
    LookAtRun,
    OfRun,
    OpenRun,
    ReadPairs,
    ReadUnfinished,
    ReadUnseen,
    Renew,
    Repair,
    RunEffect,
    SavePages,
)
from reconcile.store.counts import count
from reconcile.store.findings import close_stale, flag, flag_duplicates, flag_stale
from reconcile.store.forgetting import forget_runs
from reconcile.store.items import adopt, keep_item, read_pairs, read_unfinished, read_unseen, save_pages
from reconcile.store.repairs import close_over, import_charge, repair
from reconcile.store.runs import end_run, ended, open_run, renew


def perform(session: Session, effect: RunEffect[T], now: datetime) -> T:
    """Do one effect of a run at the provider's time `now`. Raises RunHeld when another process has the run."""
    if isinstance(effect, EndRun) and ended(session, effect.run):
        return cast("T", None)  # by a commit that nobody confirmed
    if isinstance(effect, OfRun) and not isinstance(effect, LookAtRun):
        renew(session, effect.run, now)
    return cast("T", _WORK[type(effect)](session, effect, now))


_WORK: dict[type[RunEffect[Any]], Callable[[Session, Any, datetime], object]] = {
    OpenRun: open_run,
    ForgetRuns: forget_runs,
    SavePages: save_pages,
    Renew: lambda session, effect, now: None,  # the lease is all
    Adopt: adopt,
    ReadPairs: read_pairs,
    Repair: repair,
    Import: import_charge,
    Flag: flag,
    CloseOver: close_over,
    ReadUnfinished: read_unfinished,
    ReadUnseen: read_unseen,
    KeepItem: keep_item,
    FlagDuplicates: flag_duplicates,
    FlagStale: flag_stale,
    CloseStale: close_stale,
    Count: count,
    EndRun: end_run,
}
