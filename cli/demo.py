"""The command `demo`: the whole story against the sandbox, faults, a paused machine and a killed process included.

Here are its options and its temporary folder; the story is told in `demo_story.py`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cli import output


def demo(
    seed: Annotated[int, typer.Option(help="Fixes which request meets which fault: the same seed, the same run.")] = 1,
    intents: Annotated[int, typer.Option(min=12, max=2000, help="How many payments.")] = 120,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the database, and say where it is.")] = False,
) -> int:
    """Run the whole story on this machine, in seconds.

    A filter answers in the provider's place, a request is delivered twice, a machine stands still. Then the provider, a
    sandbox, loses answers, fails and stalls, and a charging process is killed in the middle. In the end its ledger and
    the database are compared. Exit code: 0 when they agree, 1 when a single figure is wrong.
    """
    from cli.demo_story import Story

    folder = Path(tempfile.mkdtemp(prefix="paycli-demo-"))
    try:
        right = Story(seed, intents, folder).run()
    finally:
        if keep:
            output.say(f"kept: PAYCLI_DATABASE_URL=sqlite:///{folder / 'demo.db'} paycli show order_001")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if right else 1
