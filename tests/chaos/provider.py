"""The provider of a campaign in a process of its own, which outlives everything else; it is steered by lines.

Run as `python -m tests.chaos.provider SEED`: it prints where it listens, reads one JSON object a line and answers each.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from gateway_client import Sandbox
from tests.kills.door import SEND
from tests.kills.forks import ROOT, environment

SLOW_S = 0.3
ANSWER_S_MAX = 60.0


class Provider:
    """The campaign's end of it."""

    def __init__(self, seed: int) -> None:
        command = [sys.executable, "-m", "tests.chaos.provider", str(seed)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        self._url = self._url or self._answer()
        return self._url

    def fail(self, rates: Mapping[str, float]) -> None:
        """From now on, so often."""
        self._ask(rates=rates)

    def advance(self, seconds: float) -> None:
        """Move its clock."""
        self._ask(seconds=seconds)

    def ledger(self) -> dict[str, Any]:
        """Its charges, the sends that arrived, and how many requests met which fault."""
        found: dict[str, Any] = self._ask(ledger=True)
        return found

    def _ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], ANSWER_S_MAX)[0], "the provider hangs"
        line = self._process.stdout.readline()
        assert line, "the provider has ended: see what it said above"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


def ledger(sandbox: Sandbox) -> dict[str, Any]:
    requests = sandbox.requests
    sends = [one for one in requests if (one.method, one.path) == SEND]
    return {
        "charges": sandbox.charges,
        "sends": [(one.idempotency_key, one.fault, one.status, one.executed) for one in sends],
        "reads": len([one for one in requests if one.method == "GET"]),
        "faults": Counter(one.fault for one in requests if one.fault is not None),
    }


def main() -> None:
    sandbox = Sandbox(seed=int(sys.argv[1]))
    sandbox.slow_s = SLOW_S
    with sandbox.serve() as server:
        print(json.dumps(server.url), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            if "rates" in order:
                sandbox.faults = order["rates"]
            if "seconds" in order:
                sandbox.clock.advance(order["seconds"])
            print(json.dumps(ledger(sandbox) if "ledger" in order else None), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):  # Ctrl-C is the campaign's, which ends us
        main()
