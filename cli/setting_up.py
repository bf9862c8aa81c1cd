"""The commands that set things up: init makes the store, sandbox runs a provider to try it with."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from cli import output
from cli.settings import Settings, database_dialect, read_settings

if TYPE_CHECKING:
    from gateway_client.gateways.base import Binding
    from gateway_client.sandbox.server import SandboxServer


def init(
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL that makes the tables, and change nothing.")
    ] = False,
) -> int:
    """Create the database and its tables, or upgrade those of an older program. Safe to run twice.

    When a key is set, the provider is asked for its account, and the store belongs to that account from then on.
    """
    if sql:
        from gateway_client import schema

        output.text_of(schema.sql(database_dialect()))
        return 0
    settings = read_settings()
    output.data(_upgraded(settings))
    binding = _bound(settings)
    if binding is None:
        output.data("no key is set: the first charge binds it to the account of the key that it is made with")
    else:
        output.data(
            f"it belongs to {binding.provider} account {binding.account}, {binding.mode} mode, "
            f"namespace {binding.namespace}"
        )
    return 0


def _upgraded(settings: Settings) -> str:
    """Make or upgrade the tables; what was done, in words."""
    from gateway_client import ConfigurationError, schema
    from gateway_client.db import Database

    if settings.path is not None and not settings.path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {settings.path.parent}: make it, or set PAYCLI_DATABASE_URL")
    existed = settings.path is None or settings.path.exists()
    database = Database(settings.database_url)
    try:
        found = database.upgrade()
    finally:
        database.close()
    newest = schema.VERSIONS[-1]
    if found.stamped:
        return f"{settings.place} has all tables of version {newest}: that is written down now"
    if found.before == newest:
        return f"{settings.place} is up to date"
    if found.before is not None:
        return f"upgraded {settings.place} from version {found.before} to {newest}"
    return f"{'added our tables to' if existed else 'created'} {settings.place}"


def _bound(settings: Settings) -> Binding | None:
    """Whom the store belongs to, once the provider has been asked; without a key, what is on disk."""

    from gateway_client import Client, Stripe
    from gateway_client.db import Database
    from gateway_client.flow.asking import bind_flow
    from gateway_client.flow.effects import ReadBinding
    from gateway_client.store import perform

    if not os.environ.get("STRIPE_API_KEY") and not os.environ.get("STRIPE_API_KEY_FILE"):
        database = Database(settings.database_url)
        try:
            return database.transact(lambda tx: perform(tx, ReadBinding()), write=False)
        finally:
            database.close()
    gateway = Stripe.from_env()
    with Client(
        gateway,
        database=settings.database_url,
        namespace=settings.namespace,
        timeout_s=settings.timeout_s,
        proxy=settings.proxy,
    ) as client:
        return client.run(bind_flow(client.setup))


class SandboxCommand(TyperCommand):
    """Its help lists the faults, which are looked up only when it is shown."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options, then the faults."""
        from gateway_client.sandbox import FAULTS

        super().format_options(ctx, formatter)
        with formatter.section("Faults"):
            formatter.write_dl(list(FAULTS.items()))
        with formatter.section("Joined faults"):
            formatter.write_text(
                "Faults of different places in a request's life are joined by +: error_500_later+page_200_html is a "
                "saved 500 behind an error page, box_before+page_404 a page instead of the provider."
            )


def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="A port of this machine; 0 for any free one.")] = 12111,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RATE", help="How often it happens, as lost_reply=0.2 or slow+page_404=0.1; repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes every id, and which request gets which fault.")] = 0,
) -> int:
    """Run a Stripe-style provider on this machine until Ctrl-C. It moves no money and forgets everything."""
    from gateway_client import ConfigurationError, InvalidInput, Sandbox

    try:
        provider = Sandbox(seed=seed, faults=_rates(fault or []))
    except ValueError as error:
        raise InvalidInput("--fault", str(error)) from None
    try:
        server = provider.serve(port=port)
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise ConfigurationError(f"port {port} {why}; choose another one with --port, or 0 for any free one") from None
    with server:
        output.data(f"export STRIPE_API_KEY={provider.api_key}")
        output.data(f"export PAYCLI_STRIPE_API_BASE={server.url}")
        output.say(f"the sandbox listens on {server.url} until Ctrl-C; set the two variables where you run paycli")
        _wait_for_the_end(server)
    output.say(f"ended after {len(provider.requests)} requests and {len(provider.charges)} charges")
    return 0


def _rates(faults: list[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for fault in faults:
        name, sign, rate = fault.partition("=")
        if not sign:
            raise ValueError("must be NAME=RATE, such as lost_reply=0.2")
        try:
            rates[name] = float(rate)
        except ValueError:
            raise ValueError(f"the rate of {name} must be a number from 0 to 1") from None
    return rates


def _wait_for_the_end(server: SandboxServer) -> None:
    """Until Ctrl-C, or until a supervisor ends us."""
    ended = threading.Event()
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        while not ended.wait(3600):
            pass
    except KeyboardInterrupt:
        pass  # the usual end, not an interruption
    finally:
        signal.signal(signal.SIGTERM, earlier)
