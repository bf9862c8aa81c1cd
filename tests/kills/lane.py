"""One lane of the campaign: a process with a provider on a port, a store and a warm parent, that plays batches.

Run as `python -m tests.kills.lane FOLDER`; it reads one JSON object a line, the seed and number of a batch, and
answers each with its `Result`. What did not end well leaves a copy of its store in the folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from tests.kills.forks import forks
from tests.kills.plan import draw
from tests.kills.play import Play
from tests.kills.store import Store


class Order(TypedDict):
    """A batch to play."""

    seed: int
    number: int


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the campaign's, which ends us
    folder = Path(sys.argv[1]) / str(os.getpid())
    folder.mkdir()
    store = Store(folder / "store.db")
    with forks(store.path) as parent:
        for line in sys.stdin:
            order: Order = json.loads(line)
            result = Play(draw(order["seed"], order["number"]), parent, store).run()
            if result["wrong"]:
                kept = folder / f"batch_{order['number']}.db"
                store.keep(kept)
                result["wrong"].append(f"its store is kept: {kept}")
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # nobody waits for a result any more
        main()
