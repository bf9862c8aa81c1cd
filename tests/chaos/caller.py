"""A caller: a billing service that prepares and charges intents all the time, and tells what it was told as it is."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from random import Random
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from gateway_client import AsyncClient, Charge, Client, Stripe
from gateway_client.errors import AttemptRefused, NeedsPerson, OutcomeNotRecorded, ProviderUnavailable, StoreUnavailable
from tests.chaos import plan
from tests.kill_child import POLICY
from tests.kills.actor import API_KEY
from tests.kit_clients import AnyClient, Awaited

TIMEOUT_S = 2.0
PAUSE_S = 0.15  # of a caller between two intents, about
TRIES_MAX, TRY_AGAIN_S = 8, 0.2
IN_FLIGHT, CROWDED = 32, 0.05  # intents that are charged at once, and how often, among all that a caller does


class ShopIsDown(Exception):
    """The shop's own statement failed: not a matter of the library, which tells of its own in its own words."""


NOT_NOW = (ProviderUnavailable, StoreUnavailable, OutcomeNotRecorded, ShopIsDown)
"""What may end a call beside faults and kills: running it again is safe. A wrong clock is not among them."""

ORDERS = "CREATE TABLE orders (intent_id text PRIMARY KEY)"
ORDER = text("INSERT INTO orders VALUES (:intent_id) ON CONFLICT DO NOTHING")


class Caller:
    """One of them, in its process; of those that are odd the client is asynchronous."""

    def __init__(self, client: AnyClient, shop: Engine, slot: int, name: str, chance: Random) -> None:
        self.client, self.shop, self.slot, self.name, self.chance = client, shop, slot, name, chance
        self.begun: list[str] = []

    def work(self, interrupted: list[str]) -> None:
        """What the one before was killed in the midst of, then new ones, without end."""
        for intent_id in interrupted:
            self.again(intent_id, self.charge)
        for number in count():
            if self.chance.random() < CROWDED:
                self.crowd([f"order_{self.name}_{number}_{each}" for each in range(IN_FLIGHT)])
            intent_id = f"order_{self.name}_{number}"
            act = self.chance.choice((self.prepare, self.prepare, self.order, self.charge, self.both))
            other = self.chance.random()
            if other < 0.15:
                intent_id, act = self.chance.choice([*self.begun, intent_id]), self.charge
            elif other < 0.35:
                intent_id = f"order_all_{number}"  # others are at it, too, at about the same time
            self.begun.append(intent_id)
            self.again(intent_id, act)
            time.sleep(self.chance.uniform(0, 2 * PAUSE_S))

    def crowd(self, intents: list[str]) -> None:
        """Many intents in flight: their transactions are committed in groups."""
        if not isinstance(self.client, Awaited):
            with ThreadPoolExecutor(len(intents)) as pool:
                list(pool.map(lambda intent_id: self.again(intent_id, self.charge), intents))
            return
        for intent_id in intents:
            say("begun", self.slot, intent_id)
        for ended in self.client.together([plan.intent(intent_id) for intent_id in intents]):
            if isinstance(ended, Charge):
                acknowledge(ended)
            elif isinstance(ended, NOT_NOW):
                say("not now", type(ended).__name__)
            elif isinstance(ended, NeedsPerson | AttemptRefused):
                say("refused", str(ended))
            else:
                raise ended

    def again(self, intent_id: str, act: Callable[[str], None]) -> None:
        """As a billing service does when the database or the provider is away: the same call, a few times."""
        say("begun", self.slot, intent_id)
        for _ in range(TRIES_MAX):
            try:
                return act(intent_id)
            except NOT_NOW as problem:
                say("not now", type(problem).__name__)
                time.sleep(self.chance.uniform(0, 2 * TRY_AGAIN_S))
            except (NeedsPerson, AttemptRefused) as refusal:  # a finding is open; another attempt is too early
                return say("refused", intent_id, str(refusal))
        return None

    def prepare(self, intent_id: str) -> None:
        acknowledge(self.client.prepare(plan.intent(intent_id), attempt=1))

    def order(self, intent_id: str) -> None:
        """An order and its pending charge, in one transaction of the shop's own."""
        if not isinstance(self.client, Client):
            return self.prepare(intent_id)
        session = Session(self.shop)
        try:
            of_the_shop(lambda: session.execute(ORDER, {"intent_id": intent_id}))
            charge = self.client.prepare(plan.intent(intent_id), session, attempt=1)
            of_the_shop(session.commit)
        finally:
            with suppress(DBAPIError):
                session.close()
        return acknowledge(charge)

    def charge(self, intent_id: str) -> None:
        """With another card once the first attempt is refused."""
        charge = self.client.charge(plan.intent(intent_id), attempt=1)
        acknowledge(charge)
        if charge.state.refused:
            acknowledge(self.client.charge(plan.intent(intent_id, 2), attempt=2))

    def both(self, intent_id: str) -> None:
        self.prepare(intent_id)
        self.charge(intent_id)


def of_the_shop(act: Callable[[], object]) -> None:
    try:
        act()
    except DBAPIError as error:
        raise ShopIsDown from error


def say(*words: Any) -> None:
    """One line in one piece, whoever else writes there."""
    os.write(1, (json.dumps(words) + "\n").encode())


def acknowledge(charge: Charge) -> None:
    say("told", charge.intent_id, charge.attempt, charge.state.value, charge.provider_charge_id)


@contextmanager
def client_of(slot: int, url: str, database: str) -> Iterator[AnyClient]:
    gateway = Stripe(API_KEY, api_base=url)
    if slot % 2 == 0:
        with Client(gateway, database=database, timeout_s=TIMEOUT_S, retry=POLICY) as client:
            yield client
    else:
        with asyncio.Runner() as runner:
            yield Awaited(AsyncClient(gateway, database=database, timeout_s=TIMEOUT_S, retry=POLICY), runner)


def call(slot: int, generation: int, interrupted: list[str], url: str, database: str, seed: int) -> None:
    """What the process of a caller does, until it is killed."""
    try:
        shop, chance = create_engine(database), Random(f"{seed}/{slot}/{generation}")
        with client_of(slot, url, database) as client:
            Caller(client, shop, slot, f"{slot}_{generation}", chance).work(interrupted)
    except Exception as problem:
        say("raised", type(problem).__name__, str(problem)[:1000])
