"""What each check of `paycli doctor` makes of what was found: a word, a sentence, and what to do. It asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway_client.condition import Mount, SqliteSettings
    from gateway_client.gateways.base import Account, Binding, Gateway
    from reconcile.ages import Ages
    from reconcile.alerts import Facts

FINE, PERSON, SETTINGS, NOT_NOW = 0, 1, 2, 3  # exit codes, as everywhere in `paycli`
OFFSET = timedelta(seconds=2)  # a Date has whole seconds
CLOCK_BEHIND_MAX = timedelta(minutes=1)  # as the gate of every send has it
FREE_BYTES_MIN = 100 * 1024 * 1024
_OTHER_MACHINES = (
    "nfs nfs4 cifs smb3 smbfs 9p afs ceph lustre beegfs gpfs fuse.sshfs fuse.glusterfs fuse.s3fs fuse.rclone "
    "virtiofs vboxsf ocfs2 gfs2 davfs"
).split()
_MEMORY = ("tmpfs", "ramfs")


class Result(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `code` is the exit code that it asks for."""

    check: str
    result: Result
    found: str
    advice: str | None = None
    code: int = FINE

    def as_json(self) -> dict[str, str | None]:
        """The fields that programs may rely on, in their order."""
        return {"check": self.check, "result": self.result.value, "found": self.found, "advice": self.advice}


def ok(check: str, found: str) -> Check:
    """All is as it must be."""
    return Check(check, Result.OK, found)


def warning(check: str, found: str, advice: str) -> Check:
    """It works; a person should look."""
    return Check(check, Result.WARNING, found, advice, PERSON)


def problem(check: str, found: str, advice: str, code: int = PERSON) -> Check:
    """It does not work, or what it promises does not hold."""
    return Check(check, Result.PROBLEM, found, advice, code)


def not_checked(check: str, found: str, advice: str | None = None, code: int = FINE) -> Check:
    """Nobody knows; the exit code is that of the check that found out why."""
    return Check(check, Result.NOT_CHECKED, found, advice, code)


def exit_code(codes: Iterable[int]) -> int:
    """A wrong setting goes first, then what could not be asked, then what a person must look at."""
    order = (FINE, PERSON, NOT_NOW, SETTINGS)
    return max(codes, key=order.index, default=FINE)


# The database ---------------------------------------------------------------------------------------------------------


def sqlite_durability(settings: SqliteSettings) -> Check:
    """Whether commits to the file are synced."""
    found = f"journal_mode {settings.journal_mode}, synchronous {settings.synchronous}"
    if settings.journal_mode != "wal":
        return warning(
            "durability", found, "needed is wal: the first connection that writes sets it, unless the disk cannot"
        )
    if settings.synchronous < 2:
        return problem("durability", found, "needed is 2 (FULL), and this SQLite does not take it: use another one")
    return ok("durability", "journal_mode wal, synchronous FULL: a commit is on disk before it is reported")


def file(place: str, modes: Mapping[str, int], *, own: bool, writable: bool) -> Check:
    """Whether the store's files are their owner's alone. `modes` are theirs, by their endings."""
    if not writable:
        return problem(
            "file", f"this user may not write {place} or its folder", "run as its owner, or `chown` it", SETTINGS
        )
    others = {ending: mode for ending, mode in modes.items() if mode & 0o077}
    if others:
        names = ", ".join(f"{place}{ending} has mode {mode:04o}" for ending, mode in others.items())
        return warning("file", f"{names}: others on this machine can open it", f"`chmod 600 {place}*`")
    if not own:
        return warning("file", f"{place} belongs to another user", "run as its owner: new files beside it are theirs")
    return ok("file", "mode 0600: its owner's alone")


def disk(place: str, mount: Mount | None, free_bytes: int) -> Check:
    """Whether the file is on a disk of this machine, with room."""
    free = f"{free_bytes / 1024**3:.1f} GiB free"
    if mount is not None and mount.kind in _OTHER_MACHINES:
        return problem(
            "disk",
            f"{place} is on {mount.kind} ({mount.point}), {free}",
            "SQLite's locks and syncs do not hold over a network: move it to a local disk, or use PostgreSQL",
        )
    if mount is not None and mount.kind in _MEMORY:
        return warning(
            "disk", f"{place} is on {mount.kind} ({mount.point}): in memory, gone with the power", "move it to a disk"
        )
    on = "this system does not say which kind of disk it is on" if mount is None else f"{mount.kind} on {mount.point}"
    if free_bytes < FREE_BYTES_MIN:
        return warning("disk", f"{on}, {free_bytes // 1024**2} MiB free", "make room: nothing is sent on a full disk")
    return ok("disk", f"{on}, {free}")


# Whose it is ----------------------------------------------------------------------------------------------------------


def proxy(place: str, base_url: str, trouble: str | None) -> Check:
    """Judge the way to the provider through a proxy; `trouble` is why it opened no tunnel."""
    if trouble is None:
        return ok("proxy", f"{place} opens tunnels to {base_url}: everything to the provider goes through it")
    advice = "is PAYCLI_PROXY right, and the proxy up? Nothing goes past it: charges wait, and lose nothing"
    return problem("proxy", f"no tunnel to {base_url}: {trouble}", advice, NOT_NOW)


def account(gateway: Gateway, met: Account) -> Check:
    """Whose the key is."""
    declared = gateway.declared_account
    if declared not in (None, met.account):
        return problem(
            "account",
            f"the key is of {met.account}, PAYCLI_STRIPE_ACCOUNT says {declared}",
            "set the key of that account, or unset PAYCLI_STRIPE_ACCOUNT",
            SETTINGS,
        )
    return ok("account", f"{met.account}, said by the provider")


def store(binding: Binding | None, gateway: Gateway | None, namespace: str | None, account: str | None) -> Check:
    """Whether the store is that of the settings; what is None is not known."""
    if binding is None:
        return ok("store", "it belongs to nobody yet: `paycli init` or the first charge binds it to the key's account")
    found = f"{binding.provider} account {binding.account}, {binding.mode} mode, namespace {binding.namespace}"
    asked = {
        "provider": (binding.provider, gateway and gateway.provider),
        "mode": (binding.mode, gateway and gateway.mode),
        "account": (binding.account, account),
        "namespace": (binding.namespace, namespace),
    }
    differs = [f"{name} {theirs}" for name, (ours, theirs) in asked.items() if theirs is not None and ours != theirs]
    if differs:
        return problem(
            "store",
            f"it belongs to {found}; the settings say {', '.join(differs)}. Nothing is sent",
            "set the key and PAYCLI_NAMESPACE of this store, or PAYCLI_DATABASE_URL of the other one",
            SETTINGS,
        )
    unknown = [name for name, (_, theirs) in asked.items() if theirs is None]
    if unknown:
        return not_checked("store", f"{found}; not compared: {', '.join(unknown)}")
    return ok("store", f"{found}: as the settings are")


def seal(secret_id: str | None, unsealed: int) -> Check:
    """Whether rows are sealed, and which of them will not be sent for want of a seal."""
    if secret_id is None:
        return ok("seal", "PAYCLI_SEAL_SECRET is not set: whoever may write the tables can have other charges sent")
    found = f"rows are sealed, by secret {secret_id}"
    if unsealed:
        return warning(
            "seal",
            f"{found}; {unsealed} pending without a seal of a secret that is set: not sent",
            "name an old secret after the new one until none is left, or `paycli cancel` and charge them as another "
            "attempt",
        )
    return ok("seal", f"{found}; what is pending carries such a seal")


# Clocks ---------------------------------------------------------------------------------------------------------------


def clock(check: str, other: str, offset: timedelta, limit: timedelta) -> Check:
    """How far this machine's clock is from another one; `offset` is what has to be added to ours."""
    off = abs(offset)
    way = "behind" if offset > timedelta(0) else "ahead of"
    found = f"this machine's clock is {off.total_seconds():.1f} s {way} {other}"
    if off > limit:
        return problem(check, f"{found}. Nothing is sent", "set the clock right, and keep it so with NTP")
    if off > OFFSET:
        return warning(check, found, "keep the clocks right with NTP")
    return ok(check, f"this machine's clock and {other} agree within {OFFSET.total_seconds():.0f} s")


def store_clock(now: datetime, latest: datetime | None) -> Check:
    """Whether it is later than all that the store has seen."""
    if latest is None:
        return ok("store clock", "the store has seen no time yet")
    ahead = latest - now
    if ahead > CLOCK_BEHIND_MAX:
        return problem(
            "store clock",
            f"the store has seen {latest:%Y-%m-%d %H:%M:%S} UTC, {_age(ahead)} after now. Nothing is sent",
            "a clock was wrong, here or where it was written: set it right; nothing is sent before that time has come",
        )
    return ok(
        "store clock", f"the latest time that the store has seen is {latest:%Y-%m-%d %H:%M:%S} UTC, not in the future"
    )


# What is left to do ---------------------------------------------------------------------------------------------------


def pending(facts: Facts, ages: Ages, keys_over: int) -> Check:
    """What waits, and for how long."""
    from gateway_client.state import State

    groups = facts.pending_too_long
    if not groups:
        return ok("pending", "nothing is pending")
    oldest = min(groups, key=lambda group: group.since)
    states = ", ".join(f"{group.count} {group.what}" for group in groups)
    found = f"{states}; the oldest is {oldest.intent_id}, for {_age(facts.now - oldest.since)}"
    if keys_over:
        found += (
            f"; {keys_over} past the life of {'its key' if keys_over == 1 else 'their keys'}: looked up, not sent again"
        )
    if keys_over or any(facts.now - group.since > ages[State(group.what)] for group in groups):
        return warning("pending", found, "`paycli resume`, then `paycli pending` shows what is left")
    return ok("pending", found)


def findings(facts: Facts, count: int) -> Check:
    """What a person must settle."""
    if not count:
        return ok("findings", "none is open")
    critical = sum(group.critical for group in facts.findings)
    found = f"{count} open" + (f", {critical} of them critical: money is wrong on one side" if critical else "")
    advice = "`paycli findings` shows them; nothing is sent for an intent with an open one"
    return problem("findings", found, advice) if critical else warning("findings", found, advice)


def reconciliation(facts: Facts, limit: timedelta) -> Check:
    """Whether somebody compares the days."""
    last = facts.reconciled_at
    if last is None:
        return warning("reconciliation", "none was ever completed", "`paycli reconcile`, every night")
    found = f"the last complete one ended {_age(facts.now - last)} ago"
    if facts.now - last > limit:
        return warning("reconciliation", found, "see why it did not run; `paycli reconcile` makes up for it")
    if facts.missed is not None:
        days = len(facts.missed.days)
        return warning(
            "reconciliation",
            f"{found}; {days} day{'' if days == 1 else 's'} without one, the oldest {facts.missed.days[0]}",
            f"`paycli reconcile --tz {facts.missed.tz}` makes up for them",
        )
    if facts.unfinished is not None:
        return warning(
            "reconciliation",
            f"{found}; {facts.unfinished.count} begun and never completed",
            f"run `paycli reconcile {facts.unfinished.what}` first",
        )
    return ok("reconciliation", found)


def _age(passed: timedelta) -> str:
    from gateway_client.charge import age

    return age(passed)
