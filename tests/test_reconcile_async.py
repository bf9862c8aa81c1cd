"""The nightly run of an AsyncClient: the same flow, driven by the other client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

import reconcile
from gateway_client import AsyncClient, Client, InvalidInput, Stripe, UsageError
from reconcile.report import RunResult
from tests.kit import KINDS, ORDER, World


@pytest.fixture(params=["sync", "sync, postgresql"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    assert request.param in KINDS
    with World(request.param) as world:
        yield world


def async_client(world: World, database: Any = None) -> AsyncClient:
    return AsyncClient(
        Stripe(world.sandbox.api_key),
        database=database or world.url,
        transport=world.sandbox.async_transport(),
        clock=world.clock,
    )


def told(result: RunResult) -> tuple[object, ...]:
    return result.complete, result.matched, [(one.code, one.intent_id, one.action) for one in result.findings]


def test_it_finds_what_the_other_finds(world: World) -> None:
    """A lost reply is recovered by either client; a dry run tells it before, and changes nothing."""
    world.lose("lost_reply")
    before = world.row()

    async def night(*, dry_run: bool) -> RunResult:
        async with async_client(world) as client:
            return await reconcile.run_async(client, world.clock.now.date(), dry_run=dry_run)

    world.clock.advance(minutes=20)
    rehearsed = asyncio.run(night(dry_run=True))
    assert (told(rehearsed), world.row()) == (
        (True, 0, [("outcome_recovered", ORDER.intent_id, "would_repair")]),
        before,
    )
    assert told(asyncio.run(night(dry_run=False))) == (
        True,
        0,
        [("outcome_recovered", ORDER.intent_id, "repaired")],
    )
    blocking = world.open_client()
    assert isinstance(blocking, Client)
    assert told(reconcile.run(blocking, world.clock.now.date())) == (True, 1, [])


def test_the_other_client_is_refused(world: World) -> None:
    """Each of the two functions says which client it takes, before anything is asked."""
    blocking = world.open_client()

    async def night(client: Any) -> RunResult:
        return await reconcile.run_async(client, world.clock.now.date())

    with pytest.raises(InvalidInput, match="`run` takes a Client"):
        asyncio.run(night(blocking))
    with pytest.raises(InvalidInput, match="`run_async` takes an AsyncClient"):
        reconcile.run(async_client(world), world.clock.now.date())  # type: ignore[arg-type]


def test_a_dry_run_needs_a_url(world: World) -> None:
    """An AsyncEngine does not tell how its store is opened to be copied: a dry run by it is refused in words."""

    async def night() -> RunResult:
        engine = create_async_engine(world._async_engine.url)  # of this loop alone
        try:
            async with async_client(world, engine) as client:
                return await reconcile.run_async(client, world.clock.now.date(), dry_run=True)
        finally:
            await engine.dispose()

    with pytest.raises(UsageError, match="copies the store"):
        asyncio.run(night())


def test_a_run_that_ends_badly_gives_its_lease_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that an error ends keeps nobody waiting: the next call takes it up at once."""
    world.open_client().charge(ORDER)

    def broken(*given: object) -> None:
        raise ZeroDivisionError("planted")

    async def night() -> RunResult:
        async with async_client(world) as client:
            return await reconcile.run_async(client, world.clock.now.date())

    with monkeypatch.context() as patch:
        patch.setattr("reconcile.flow._match", broken)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(night())
    assert told(asyncio.run(night())) == (True, 1, [])
