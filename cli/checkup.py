"""The checks of `paycli doctor`, one after the other: it asks machine, provider and database, and changes nothing.

One that fails is told, and the others go on. What an answer means is `checks.py`'s to say.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cli import checks, checks_server
from cli.ages import VARIABLES, read_limits
from cli.checks import Check, not_checked, ok, problem
from cli.settings import read_settings
from gateway_client import ConfigurationError, InvalidInput, StoreUnavailable, Stripe, condition, schema
from gateway_client.clock import OFFSET_MAX, Clock, ProviderTime
from gateway_client.exchange import unaged
from gateway_client.flow.effects import ReadBinding
from gateway_client.frozen import Seal
from gateway_client.gateways.base import Account, Reply
from gateway_client.gateways.stripe import STRIPE_URL
from gateway_client.outcome import ReplyClass
from gateway_client.proxy import Proxy, read_proxy
from gateway_client.sockets import tunnel_problem
from gateway_client.store.claim import read_binding
from gateway_client.store.reading import read_latest_seen_at, read_timeline, read_unsealed
from gateway_client.transaction import Transaction
from gateway_client.wire import CONNECT_S_MAX, Wire
from reconcile.ages import every
from reconcile.alerts import Facts
from reconcile.store.alerts import keys_over, open_findings, read_facts

T = TypeVar("T")
Look = Callable[[], Iterator[Check]]

MOUNTS = Path("/proc/mounts")
READ_HERE = (
    *("PAYCLI_DATABASE_URL", "PAYCLI_NAMESPACE", "PAYCLI_TIMEOUT_S", "PAYCLI_SENDS_MAX", "PAYCLI_SEAL_SECRET"),
    "PAYCLI_PROXY",
    *VARIABLES,
)
SECRET = ("STRIPE_API_KEY", "PAYCLI_WEBHOOK_SECRET")
OF_THE_KEY = ("STRIPE_API_KEY_FILE", "PAYCLI_STRIPE_API_BASE", "PAYCLI_STRIPE_ACCOUNT")
_IN_THE_FUTURE = timedelta(minutes=-1)  # rows that another machine has written by a clock a little ahead of ours


class Unread(Exception):
    """Another check has already said why this one cannot be made."""


class Checkup:
    """One visit: what it has learned so far is what later checks compare with."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._environ, self._clock = environ, clock
        self._time = ProviderTime(clock)
        self._settings, self._limits = read_settings({}), read_limits(environ={})
        self._wrong: set[str] = set()  # variables that cannot be used
        self._gateway: Stripe | None = None
        self._account: str | None = None
        self._proxy: Proxy | None = None
        self._no_way: str | None = None  # why the provider is not asked, by a proxy or past it; None: it is
        self._reader: condition.Reader | None = None
        self._unread: str | None = "the database could not be used"  # why nothing can be read; None: it can
        self._tables = False

    def checks(self) -> Iterator[Check]:
        """Every check, in the order in which a person would mend what they find."""
        yield from _told("settings", self._look_at_settings)
        yield from _told("key", self._look_at_key)
        if self._environ.get("PAYCLI_PROXY"):
            yield from _told("proxy", self._look_at_proxy)
        yield from _told("account", self._look_at_account)
        yield from _told("provider clock", self._look_at_provider_clock)
        for name, look in self._of_the_database():
            yield from _told(name, look)

    # Settings and the provider -------------------------------------------------------------------------------------

    def _look_at_settings(self) -> Iterator[Check]:
        """Each variable by itself, so that a wrong one hides no other."""
        env = {name: self._environ[name] for name in READ_HERE if self._environ.get(name)}
        for name, value in env.items():
            try:
                read_settings({name: value})
                read_limits(environ={name: value})
            except ConfigurationError as error:
                self._wrong.add(name)
                yield problem("settings", _words(error), f"set {name} right, or unset it", checks.SETTINGS)
        right = {name: value for name, value in env.items() if name not in self._wrong}
        self._settings, self._limits = read_settings(right), read_limits(environ=right)
        self._proxy = read_proxy(self._settings.proxy, base_url=STRIPE_URL)
        shown = {
            "PAYCLI_DATABASE_URL": self._settings.place,
            "PAYCLI_NAMESPACE": self._settings.namespace,
            "PAYCLI_TIMEOUT_S": f"{self._settings.timeout_s:g}",
            "PAYCLI_SENDS_MAX": str(self._settings.retry.sends_max),
            **{name: self._environ.get(name, "") for name in VARIABLES},
            "PAYCLI_SEAL_SECRET": "(not shown)",
            "PAYCLI_PROXY": "" if self._proxy is None else self._proxy.place,
        }
        told = [f"{name} {shown[name]}" for name in env if name not in self._wrong]
        for name in (*OF_THE_KEY, *SECRET):
            text = self._environ.get(name)
            if text:
                told.append(f"{name} {text if name in OF_THE_KEY and _usable(name, text) else '(not shown)'}")
        yield ok("settings", ", ".join(told) if told else "no variable is set: all of them have their defaults")

    def _look_at_key(self) -> Iterator[Check]:
        """The key as `Stripe.from_env` takes it, which refuses plain http to another machine, among others."""
        try:
            self._gateway = Stripe.from_env(self._environ)
        except ConfigurationError as error:
            advice = "correct the variable that is named; nothing is sent until then"
            yield problem("key", _words(error), advice, checks.SETTINGS)
            return
        yield ok("key", f"a {self._gateway.mode} key, sent to {self._gateway.base_url} only")

    def _look_at_proxy(self) -> Iterator[Check]:
        """Open a tunnel and send nothing in it. Until it is open the provider is not asked, least of all directly."""
        self._no_way = "PAYCLI_PROXY cannot be used"
        proxy, gateway = self._proxy, self._gateway
        if proxy is None:
            raise Unread(self._no_way)
        if gateway is None:
            raise Unread("there is no key to ask with")
        try:
            read_proxy(self._settings.proxy, base_url=gateway.base_url)
        except InvalidInput as error:
            yield problem("proxy", f"PAYCLI_PROXY {error.problem}", "set it right, or unset it", checks.SETTINGS)
            return
        trouble = tunnel_problem(proxy, gateway.base_url, min(CONNECT_S_MAX, self._settings.timeout_s))
        self._no_way = None if trouble is None else "the proxy opens no tunnel"
        yield checks.proxy(proxy.place, gateway.base_url, trouble)

    def _look_at_account(self) -> Iterator[Check]:
        gateway = self._gateway
        if gateway is None:
            raise Unread("there is no key to ask with")
        if self._no_way is not None:
            raise Unread(self._no_way)
        wire = Wire(gateway, self._settings.timeout_s, None, self._proxy)
        request = gateway.account_request()
        try:
            reply = wire.exchange(request, unaged)
        finally:
            wire.close()
        date = gateway.read_time(request, reply) if isinstance(reply, Reply) else None
        if date is not None and isinstance(reply, Reply):
            self._time.learn(date, timedelta(milliseconds=reply.elapsed_ms))
        met = gateway.read_account(reply)
        if isinstance(met, Account):
            self._account = met.account
            yield checks.account(gateway, met)
        elif met.credential:
            forbidden = met.reply is ReplyClass.FORBIDDEN
            advice = "or set a key of this account that has it" if forbidden else "set the key of this account"
            yield problem("account", met.reason, advice, checks.SETTINGS)
        else:
            yield not_checked(
                "account",
                f"the provider could not be asked: {met.reason}",
                f"is {gateway.base_url} reached from here? Charges wait, and lose nothing",
                checks.NOT_NOW,
            )

    def _look_at_provider_clock(self) -> Iterator[Check]:
        if not self._time.fresh:
            raise Unread("no answer of the provider told its time")
        yield checks.clock("provider clock", "the provider's", self._time.now() - self._here(), OFFSET_MAX)

    def _here(self) -> datetime:
        return datetime.fromtimestamp(self._clock.time(), UTC)

    # The database --------------------------------------------------------------------------------------------------

    def _of_the_database(self) -> Iterator[tuple[str, Look]]:
        yield "database", self._open
        path = self._settings.path
        if path is not None:
            yield "durability", lambda: _one(checks.sqlite_durability(self._read(condition.sqlite_settings)))
            yield "file", lambda: _one(_file(self._there(path)))
            yield "disk", lambda: _one(_disk(self._there(path)))
        else:
            yield "durability", lambda: _one(checks_server.postgres_durability(self._read(condition.postgres_settings)))
            yield "primary", lambda: _one(checks_server.primary(replica=self._read(condition.is_replica)))
            yield "collation", lambda: _one(checks_server.collation(self._read(condition.collations)))
            yield "permissions", lambda: _one(checks_server.permissions(self._read(condition.rights)))
            yield "database clock", self._look_at_database_clock
        yield "schema", self._look_at_schema
        if path is None:
            yield "timeline", self._look_at_timeline
        yield "store", self._look_at_store
        yield "seal", self._look_at_seal
        yield "store clock", lambda: _one(checks.store_clock(self._time.now(), self._read_store(read_latest_seen_at)))
        yield "pending", self._look_at_pending
        yield "findings", self._look_at_findings
        yield "reconciliation", lambda: _one(checks.reconciliation(self._facts(), self._limits.reconciled))

    def _open(self) -> Iterator[Check]:
        if "PAYCLI_DATABASE_URL" in self._wrong:
            raise Unread("PAYCLI_DATABASE_URL cannot be used")
        path = self._settings.path
        if path is not None and not path.is_file():
            advice = "`paycli init` creates it, or set PAYCLI_DATABASE_URL"
            yield problem("database", f"there is no database at {path}", advice, checks.SETTINGS)
            return
        self._reader = reader = condition.Reader(self._settings.database_url)
        if path is not None:
            reader.read(condition.sqlite_settings)
            check = ok("database", f"SQLite {sqlite3.sqlite_version}, {reader.place}")
        else:
            check = checks_server.postgres_version(reader.place, *reader.read(condition.version))
        self._unread = None
        yield check

    def _read(self, work: Callable[[Transaction], T]) -> T:
        if self._reader is None or self._unread is not None:
            raise Unread(self._unread)
        return self._reader.read(work)

    def _read_store(self, work: Callable[[Transaction], T]) -> T:
        """What needs our tables."""
        if self._unread is None and not self._tables:
            raise Unread("the schema is not this program's")
        return self._read(work)

    def _there(self, path: Path) -> Path:
        """The store's file, which can be looked at from outside also when it cannot be read."""
        if "PAYCLI_DATABASE_URL" in self._wrong or not path.is_file():
            raise Unread(self._unread)
        return path

    def _look_at_database_clock(self) -> Iterator[Check]:
        def offset(tx: Transaction) -> timedelta:
            before = self._here()
            there = condition.database_time(tx)
            return there - (before + (self._here() - before) / 2)

        yield checks.clock("database clock", "the database's", self._read(offset), OFFSET_MAX)

    def _look_at_schema(self) -> Iterator[Check]:
        check = self._read(_schema)
        self._tables = check.result is checks.Result.OK
        yield check

    def _look_at_timeline(self) -> Iterator[Check]:
        yield checks_server.timeline(self._read(condition.timeline), self._read_store(read_timeline))

    def _look_at_store(self) -> Iterator[Check]:
        namespace = None if "PAYCLI_NAMESPACE" in self._wrong else self._settings.namespace
        binding = self._read_store(lambda tx: read_binding(tx, ReadBinding()))
        yield checks.store(binding, self._gateway, namespace, self._account)

    def _look_at_seal(self) -> Iterator[Check]:
        secret = self._settings.seal_secret
        seal = None if secret is None else Seal(secret)
        if "PAYCLI_SEAL_SECRET" in self._wrong:
            raise Unread("PAYCLI_SEAL_SECRET cannot be used")
        unsealed = self._read_store(lambda tx: read_unsealed(tx, () if seal is None else seal.ids))
        yield checks.seal(None if seal is None else seal.id, unsealed)

    def _look_at_pending(self) -> Iterator[Check]:
        now, facts = self._time.now(), self._facts()
        over = self._read_store(lambda tx: keys_over(tx, now, Stripe.profile.bounds.key_life))
        yield checks.pending(facts, self._limits.pending, over)

    def _look_at_findings(self) -> Iterator[Check]:
        yield checks.findings(self._facts(), self._read_store(open_findings))

    def _facts(self) -> Facts:
        """The facts behind `paycli alerts`, with every pending charge however young."""
        now, limits = self._time.now(), replace(self._limits, pending=every(_IN_THE_FUTURE))
        return self._read_store(lambda tx: read_facts(tx, now, limits, Stripe.profile.bounds.key_life))


def _schema(tx: Transaction) -> Check:
    """Whether the tables are those of this program."""
    if schema.check(tx.connection):  # another version is refused in words
        return ok("schema", f"our tables are there, version {schema.VERSIONS[-1]}")
    return problem("schema", "our tables are not there, or not all of them", "run `paycli init`", checks.SETTINGS)


def _file(path: Path) -> Check:
    files = {ending: Path(f"{path}{ending}") for ending in ("", "-wal", "-shm")}
    found = {ending: each.stat() for ending, each in files.items() if each.exists()}
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    modes = {ending: each.st_mode & 0o7777 for ending, each in found.items()}
    return checks.file(str(path), modes, own=found[""].st_uid == os.geteuid(), writable=writable)


def _disk(path: Path) -> Check:
    mounts = MOUNTS.read_text(encoding="utf-8", errors="replace") if MOUNTS.exists() else ""
    return checks.disk(str(path), condition.mount_of(path, mounts), shutil.disk_usage(path.parent).free)


def _one(check: Check) -> Iterator[Check]:
    yield check


def _told(name: str, look: Look) -> Iterator[Check]:
    """What a check came to, whatever became of it: one that fails must not hide those after it."""
    try:
        return iter(list(look()))
    except Unread as why:
        return _one(not_checked(name, str(why)))
    except ConfigurationError as error:
        return _one(problem(name, _words(error), "correct it; nothing is sent until then", checks.SETTINGS))
    except StoreUnavailable as error:
        advice = "nothing is sent without it; what is on disk is resumed when it is back"
        return _one(problem(name, error.why, advice, checks.NOT_NOW))
    except OSError as error:
        return _one(problem(name, f"the system refuses: {error.strerror}", "is this the right user?", checks.SETTINGS))
    except Exception as error:  # its message could hold anything, a key for one
        return _one(
            not_checked(
                name, f"internal error, {type(error).__name__}: a bug, or a table that is not ours", code=checks.PERSON
            )
        )


def _words(error: Exception) -> str:
    return str(error).removesuffix(" Nothing was sent.").removesuffix(".")


def _usable(name: str, value: str) -> bool:
    """What cannot be used is not shown: a key may have got into the wrong variable."""
    try:
        match name:
            case "PAYCLI_STRIPE_API_BASE":
                Stripe("sk_test_none", api_base=value)
            case "PAYCLI_STRIPE_ACCOUNT":
                Stripe("sk_test_none", account=value)
            case _:
                return Path(value).is_file()
    except (ConfigurationError, OSError, ValueError):
        return False
    return True
