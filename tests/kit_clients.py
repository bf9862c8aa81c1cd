"""Clients as tests call them: both kinds in the same words, on transports that stand for a socket of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from gateway_client import AsyncClient, Charge, Client, PaymentIntent
from gateway_client.gateways.base import NoReply, Reply

Listener = Callable[[Charge], None]


class AnyClient(Protocol):
    """The words that Client and AsyncClient share, called without `await`."""

    def charge(self, intent: PaymentIntent, *, attempt: int | None = None) -> Charge: ...
    def prepare(self, intent: PaymentIntent, *, attempt: int | None = None) -> Charge: ...
    def resume(self, limit: int | None = None, *, on_charge: Listener = ...) -> tuple[Charge, ...]: ...
    def cancel(self, intent_id: str, *, because: str) -> Charge: ...
    def find(self, intent_id: str, *, attempt: int | None = None) -> Charge | None: ...
    def close(self) -> None: ...


class Awaited:
    """An AsyncClient, called as a Client is."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client, self._runner = client, runner

    def charge(self, intent: PaymentIntent, *, attempt: int | None = None) -> Charge:
        return self._runner.run(self._client.charge(intent, attempt=attempt))

    def together(self, intents: Sequence[PaymentIntent]) -> list[Charge | BaseException]:
        """Charge first attempts at once; what each of them came to."""

        async def gathered() -> list[Charge | BaseException]:
            charging = (self._client.charge(intent, attempt=1) for intent in intents)
            return await asyncio.gather(*charging, return_exceptions=True)

        return self._runner.run(gathered())

    def prepare(self, intent: PaymentIntent, *, attempt: int | None = None) -> Charge:
        return self._runner.run(self._client.prepare(intent, attempt=attempt))

    def resume(self, limit: int | None = None, *, on_charge: Listener = lambda charge: None) -> tuple[Charge, ...]:
        return self._runner.run(self._client.resume(limit, on_charge=on_charge))

    def cancel(self, intent_id: str, *, because: str) -> Charge:
        return self._runner.run(self._client.cancel(intent_id, because=because))

    def find(self, intent_id: str, *, attempt: int | None = None) -> Charge | None:
        return self._runner.run(self._client.find(intent_id, attempt=attempt))

    def close(self) -> None:
        self._runner.run(self._client.close())


def with_own_socket(client: Client | AsyncClient) -> None:
    """Let a refused connection count as "not sent", which only a socket of ours can say: no test here opens one."""
    wire: Any = client._wire
    exchange = wire.exchange

    def told(reply: Reply | NoReply) -> Reply | NoReply:
        if isinstance(reply, NoReply) and "ConnectError" in reply.reason:
            return replace(reply, sent=False, reason="not sent: no connection to the provider")
        return reply

    async def exchange_async(*arguments: Any) -> Reply | NoReply:
        return told(await exchange(*arguments))

    wire.exchange = exchange_async if isinstance(client, AsyncClient) else lambda *arguments: told(exchange(*arguments))
