"""The settings of `paycli`, read from the environment, and what is opened by them: the store and the client.

A wrong value is a ConfigurationError that names its variable. Keys are read by `Stripe.from_env`, never here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway_client import Client, RetryPolicy
    from gateway_client.db import Database

DATABASE_URL = "sqlite:///paycli.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, checked."""

    database_url: str = field(repr=False)  # it holds a password
    path: Path | None  # of a SQLite store
    place: str  # of the store, for people
    namespace: str
    timeout_s: float
    retry: RetryPolicy
    seal_secret: str | None = field(repr=False)
    proxy: str | None = field(repr=False)  # it holds a password


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings; an empty variable counts as not set."""
    from gateway_client.errors import ConfigurationError, without_frames

    try:
        return _settings_of(os.environ if environ is None else environ)
    except ConfigurationError as error:
        raise without_frames(error) from None
    finally:
        del environ  # the frame would show the passwords in it


def _settings_of(env: Mapping[str, str]) -> Settings:
    from gateway_client import ConfigurationError, InvalidInput, RetryPolicy
    from gateway_client.backends import backend_of, parsed
    from gateway_client.intent import check_namespace
    from gateway_client.retry import checked_timeout

    variable = "PAYCLI_DATABASE_URL"
    try:
        url = env.get(variable) or DATABASE_URL
        address = parsed(url)
        path = Path(address.database or "").absolute() if address.get_backend_name() == "sqlite" else None
        place = backend_of(address).place(address)
        variable = "PAYCLI_NAMESPACE"
        namespace = env.get(variable) or "default"
        check_namespace(namespace)
        variable = "PAYCLI_TIMEOUT_S"
        timeout_s = checked_timeout(float(env.get(variable) or 30))
        variable = "PAYCLI_SENDS_MAX"
        retry = RetryPolicy(sends_max=int(env.get(variable) or RetryPolicy().sends_max))
        variable = "PAYCLI_SEAL_SECRET"
        seal_secret = env.get(variable) or None
        if seal_secret is not None:
            _check_seal(seal_secret)
        variable = "PAYCLI_PROXY"
        proxy = env.get(variable) or None
        if proxy is not None:
            _check_proxy(proxy, env.get("PAYCLI_STRIPE_API_BASE"))
    except InvalidInput as error:
        raise ConfigurationError(f"{variable} {error.problem}. Nothing was sent.") from None
    except ValueError:  # of float() and int(), which would repeat the value
        raise ConfigurationError(f"{variable} must be a number. Nothing was sent.") from None
    return Settings(url, path, place, namespace, timeout_s, retry, seal_secret, proxy)


def _check_seal(secret: str) -> None:
    from gateway_client.frozen import Seal

    Seal(secret)


def _check_proxy(proxy: str, base_url: str | None) -> None:
    from gateway_client.gateways.stripe import STRIPE_URL
    from gateway_client.proxy import read_proxy

    read_proxy(proxy, base_url=base_url or STRIPE_URL)


def database_dialect() -> str:
    """The kind of the database that is set, such as postgresql; it is not opened and need not be there."""
    from gateway_client.database_url import read

    return read(os.environ.get("PAYCLI_DATABASE_URL") or DATABASE_URL).get_backend_name()


def open_store(settings: Settings) -> Database:
    """The store, which must exist: a job in another folder must not open an empty one and find nothing to do."""
    from gateway_client import ConfigurationError
    from gateway_client.db import Database
    from gateway_client.schema import check

    if settings.path is not None and not settings.path.is_file():
        raise ConfigurationError(
            f"there is no database at {settings.path}: run `paycli init` to create it, or set PAYCLI_DATABASE_URL. "
            "Nothing was sent."
        )
    database = Database(settings.database_url)
    try:
        if not database.transact(lambda tx: check(tx.connection), write=False):
            raise ConfigurationError(f"{settings.place} has no tables of ours: run `paycli init`. Nothing was sent.")
    except BaseException:
        database.close()
        raise
    return database


def open_client(settings: Settings) -> Client:
    """A client of the provider that the environment names, on the store, which must exist."""
    from gateway_client import Client, Stripe

    gateway = Stripe.from_env()
    open_store(settings).close()
    return Client(
        gateway,
        database=settings.database_url,
        namespace=settings.namespace,
        timeout_s=settings.timeout_s,
        retry=settings.retry,
        seal_secret=settings.seal_secret,
        proxy=settings.proxy,
    )
