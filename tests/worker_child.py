"""A worker process that stops itself (SIGSTOP) just before a point of its first send; `test_cli_worker.py` starts it.

Run as `python -m tests.worker_child POINT`, in the environment of `paycli`. The wire's ten seconds are half a second in
it, so that a pause longer than that is a short one.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, TypeVar

from gateway_client import Client, wire
from gateway_client.flow.effects import BeginSend, Effect, Send
from gateway_client.store import leases

T = TypeVar("T")
PAUSE_S = 0.5
POINTS = {"begin": BeginSend, "send": Send}


def main() -> None:
    point = POINTS[sys.argv.pop(1)]
    for module in (wire, leases):
        vars(module)["BEGUN_S_MAX"] = PAUSE_S
    perform = Client.perform
    stopped: list[Effect[Any]] = []

    def stop_before(client: Client, effect: Effect[T]) -> T:
        if isinstance(effect, point) and not stopped:
            stopped.append(effect)
            os.kill(os.getpid(), signal.SIGSTOP)
        return perform(client, effect)

    Client.perform = stop_before  # type: ignore[method-assign,assignment]
    from cli.main import run

    run()


if __name__ == "__main__":
    main()
