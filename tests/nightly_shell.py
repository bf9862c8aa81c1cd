"""A night with a shell in it, for the tests of `reconcile`, `findings`, `resolve` and `alerts` as commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from gateway_client.flow.effects import Bind
from tests.cli_world import API_KEY, Run
from tests.nightly import Night

FINDING_FIELDS = (
    "id code intent_id attempt provider_charge_id action here there detail found_at closed_at closed_by because"
).split()
NO_KEY = {"STRIPE_API_KEY": ""}


class NightShell(Night):
    """A night with a shell in it: `paycli` runs in this process, on the clock of the night, and only ever asks."""

    env: dict[str, str]

    def paycli(self, *arguments: str, **env: str) -> Run:
        """Run a command; an empty variable counts as not set."""
        asked = len(self.sandbox.requests)
        result = CliRunner().invoke(app, list(arguments), env={**self.env, **env})
        sent = [one for one in self.sandbox.requests[asked:] if one.method != "GET"]
        assert sent == [] or arguments[0] == "charge"
        assert API_KEY not in result.stdout + result.stderr
        return Run(result.exit_code, result.stdout, result.stderr)

    def reconcile(self, *options: str, **env: str) -> Run:
        """Reconcile the day of the clock."""
        return self.paycli("reconcile", "--date", "today", *options, **env)

    def lose_charge(self, intent_id: str) -> str:
        """Charge an intent, and let the provider forget the charge; its id."""
        self.pay(intent_id)
        charge_id = self.row(intent_id)["provider_charge_id"]
        self.sandbox.remove(charge_id)
        return str(charge_id)

    def misstate(self, intent_id: str) -> str:
        """Charge an intent of 20 USD, and let the provider say that it was 25; the charge's id."""
        self.pay(intent_id)
        self.change(intent_id, amount=2500)
        return str(self.row(intent_id)["provider_charge_id"])


@contextmanager
def night_shell(kind: str = "sync") -> Iterator[NightShell]:
    """A night and its shell, with a provider on a port; nothing in it sleeps."""
    with NightShell(kind) as made, made.sandbox.serve() as server, pytest.MonkeyPatch.context() as patch:

        class Clocked(datetime):
            """The time of the night."""

            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:
                return datetime.fromtimestamp(made.clock.time(), tz)

        for module in ("cli.reconciling", "cli.alerting"):
            patch.setattr(f"{module}.datetime", Clocked)
        for module in ("gateway_client.driver", "gateway_client.clock"):
            patch.setattr(f"{module}.SystemClock", lambda: made.clock)
        made.env = {
            "STRIPE_API_KEY": API_KEY,
            "PAYCLI_STRIPE_API_BASE": server.url,
            "PAYCLI_DATABASE_URL": made.url,
        }
        made.perform(Bind(made.binding))
        yield made


def cells(line: str) -> list[str]:
    """The columns of a line of a table."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]
