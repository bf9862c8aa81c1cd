"""A process that uses a client, forks, and goes on using it: run by `test_fork.py`, which reads what it prints.

It counts the connections that each process opens by Python's own audit events, whoever opens them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.pool import Pool

from gateway_client import AsyncClient, Client, Stripe
from tests.kill_child import POLICY, order

OPENED: Counter[str] = Counter()
THREADS, CHILDREN = 8, 5


def opened(name: str, arguments: tuple[Any, ...]) -> None:
    if name in ("socket.connect", "sqlite3.connect"):
        OPENED[name] += 1


def counted(work: Callable[[], object]) -> dict[str, Any]:
    """What the work came to, and the connections it opened."""
    OPENED.clear()
    result = work()
    return {"result": result, **OPENED}


def in_child(work: Callable[[], object], *, leaves: Callable[[int], object]) -> dict[str, Any]:
    """Work in a forked child, which ends by `leaves`; what it reported."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            report: dict[str, Any] = counted(work)
        except Exception as problem:
            report = {"result": f"{type(problem).__name__}: {problem}"}
        os.write(writing, json.dumps(report).encode())
        leaves(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told: dict[str, Any] = json.loads(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    return told


def sync_story(url: str, database: str, leaves: Callable[[int], object]) -> dict[str, Any]:
    """Parent, child, parent; then both at the same time."""
    with Client(Stripe("sk_test_sandbox", api_base=url), database=database, timeout_s=5.0, retry=POLICY) as client:
        before = counted(lambda: client.charge(order("before")).state)
        child = in_child(lambda: client.charge(order("child")).state, leaves=leaves)
        after = counted(lambda: client.charge(order("after")).state)
        grandchild = in_child(lambda: [client.charge(order("second")).state, grand(client, leaves)], leaves=leaves)
        last = counted(lambda: client.charge(order("last")).state)
    return {"before": before, "child": child, "after": after, "grandchild": grandchild, "last": last}


def threads_story(url: str, database: str, leaves: Callable[[int], object]) -> dict[str, Any]:
    """A few children, in each of which several threads are the first to use the client."""
    with Client(Stripe("sk_test_sandbox", api_base=url), database=database, timeout_s=5.0, retry=POLICY) as client:
        client.charge(order("before"))
        told = [in_child(lambda: in_threads(client), leaves=leaves)["result"] for _ in range(CHILDREN)]
        return {"told": told, "after": client.charge(order("after")).state}


def grand(client: Client, leaves: Callable[[int], object]) -> dict[str, Any]:
    return in_child(lambda: client.charge(order("third")).state, leaves=leaves)


def refuse(*arguments: object) -> NoReturn:
    raise AssertionError("the parent's connection was used")


def in_threads(client: Client) -> list[str]:
    """The child's first use of the client is by several threads at once, as in a preloaded server."""
    setattr(client._wire, "exchange", refuse)  # noqa: B010 - the parent's wire, from now on in this process
    barrier, told = threading.Barrier(THREADS), [""] * THREADS

    def charge(number: int) -> None:
        barrier.wait(10)
        try:
            told[number] = client.charge(order(f"{os.getpid()}_{number}")).state
        except Exception as problem:
            told[number] = f"{type(problem).__name__}: {problem}"

    threads = [threading.Thread(target=charge, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return told


def async_story(url: str, database: str, leaves: Callable[[int], object]) -> dict[str, Any]:
    """An async client that was used in the parent is used in a child, in a loop of the child's own."""
    import asyncio

    gateway = Stripe("sk_test_sandbox", api_base=url)
    client = AsyncClient(gateway, database=database, timeout_s=5.0, retry=POLICY)

    async def charge(intent_id: str, *, close: bool) -> str:
        state = (await client.charge(order(intent_id))).state
        if close:
            await client.close()
        return state

    loop = asyncio.new_event_loop()
    before = counted(lambda: loop.run_until_complete(charge("before", close=False)))
    child = in_child(lambda: asyncio.run(charge("child", close=True)), leaves=leaves)
    after = counted(lambda: loop.run_until_complete(charge("after", close=True)))
    loop.close()
    return {"before": before, "child": child, "after": after}


def main() -> None:
    kind, ends, url, database = sys.argv[1:]
    sys.addaudithook(opened)
    if database.startswith("postgresql"):  # libpq's sockets are not told
        event.listen(Pool, "connect", lambda connection, record: OPENED.update(["libpq.connect"]))
    story = {"sync": sync_story, "threads": threads_story, "async": async_story}[kind]
    leaves: dict[str, Callable[[int], object]] = {"at_once": os._exit, "normally": sys.exit}
    print(json.dumps(story(url, database, leaves[ends])))


if __name__ == "__main__":
    main()
