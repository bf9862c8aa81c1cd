"""Which database a URL is of, what the two kinds have in common, and a database's refusal in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway_client import postgres, sqlite
from gateway_client.database_url import read, wrong
from gateway_client.errors import ConfigurationError, NeedsPerson, StoreUnavailable, without_frames
from gateway_client.transaction import Opened


class Backend(Protocol):
    """What `sqlite` and `postgres` have in common: these two modules are the backends."""

    OPTIONS: Mapping[str, Any]
    ASYNC_DRIVER: str
    ISOLATION: str | None
    ISOLATION_READING: str | None
    DEADLINE_S: float | None

    def checked(self, url: URL) -> URL: ...
    def place(self, url: URL) -> str: ...
    def same(self, ours: URL, theirs: URL) -> bool: ...
    def create_place(self, url: URL) -> None: ...
    def copy(self, connection: Connection, path: Path) -> None: ...
    def begin(self, connection: Connection, *, write: bool, owned: bool, patient: bool, lock: str | None) -> Opened: ...
    def try_lock(self, connection: Connection, intent_ids: Sequence[str]) -> Sequence[str]: ...
    def lock(self, connection: Connection, *intent_ids: str) -> None: ...
    def identity(self, connection: Connection) -> object: ...
    def watch(self, engine: Engine) -> None: ...
    def join(self, connection: Connection) -> Opened: ...
    def patient(self, connection: Connection) -> AbstractContextManager[None]: ...
    def before_commit(self, opened: Opened) -> None: ...
    def after_commit(self, opened: Opened) -> None: ...
    def explained(self, error: DBAPIError) -> str | None: ...
    def lacks_tables(self, error: DBAPIError) -> bool: ...
    def wrong_setting(self, error: DBAPIError) -> str | None: ...
    def passes(self, error: DBAPIError) -> bool: ...
    def waits(self, error: DBAPIError) -> bool: ...


def backend_of(url: URL) -> Backend:
    """The backend of a URL. Raises ConfigurationError."""
    match url.get_backend_name():
        case "sqlite":
            return sqlite
        case "postgresql":
            return postgres
    raise ConfigurationError(f"{url.get_backend_name()} databases are not supported; use SQLite or PostgreSQL")


def parsed(url: str) -> URL:
    """A URL of a database that is supported, with its driver. Raises ConfigurationError."""
    try:
        return _parsed(url)
    except ConfigurationError as error:
        raise without_frames(error) from None
    finally:
        del url


def _parsed(text: str) -> URL:
    url = read(text)
    return backend_of(url).checked(url)


def engine_options(url: URL) -> dict[str, Any]:
    """What an engine of our own is made with; what its URL says itself counts."""
    options = backend_of(url).OPTIONS
    arguments = {name: value for name, value in options["connect_args"].items() if name not in url.query}
    return {**options, "connect_args": arguments, "hide_parameters": True}  # keys and bodies stay out of logs


def _contradiction(where: str, error: IntegrityError) -> NeedsPerson:
    """A row that the tables do not allow: trying again would not help, so it is not called unavailable."""
    rule = getattr(getattr(error.orig, "diag", None), "constraint_name", None) or getattr(
        error.orig, "sqlite_errorname", None
    )
    return NeedsPerson(
        f"the database {where} refused a row by a rule of its tables ({rule or 'unnamed'}): it holds what was not "
        "found there a moment before, or a trigger or a rule was added by hand. An index that no longer fits looks so "
        "(PostgreSQL: a collation that changed, see `paycli doctor`, then REINDEX; SQLite: PRAGMA integrity_check, "
        "then REINDEX). The transaction was undone, and nothing more was sent: mend it, then run this again."
    )


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn a database's refusal into StoreUnavailable, in words for the person who must act."""
    backend = backend_of(url)
    try:
        yield
    except DBAPIError as error:
        where = backend.place(url)
        if backend.lacks_tables(error):
            raise ConfigurationError(f"{where} has no tables of ours: run `paycli init`. Nothing was sent.") from error
        setting = backend.wrong_setting(error)
        if setting is not None:
            raise wrong(setting) from error
        why = backend.explained(error)
        if isinstance(error, IntegrityError):
            raise _contradiction(where, error) from error
        if why is None:
            raise  # a wrong statement is a bug of ours: never hidden behind "unavailable"
        raise StoreUnavailable(f"the database {where} cannot be used: {why}") from error
    except PoolTimeout as error:
        raise StoreUnavailable("every database connection of this process is in use") from error
