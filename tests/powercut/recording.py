"""One process recorded above the layer: its log, what was there before, and the provider that it spoke to."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from datetime import time as moment
from pathlib import Path
from typing import NamedTuple

from gateway_client import Sandbox
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.server import SandboxServer
from gateway_client.sandbox.wire import Answer, Request
from tests.nightly_mass import Mass
from tests.powercut.child import STORE, record, yesterday
from tests.powercut.disk import Disk, Entry, Image, entries

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS_MAX = 60.0


class Recording(NamedTuple):
    """What one process did to its folder, and what it was told and told others meanwhile."""

    work: str
    prepared: Image
    entries: tuple[Entry, ...]

    @property
    def refused(self) -> str | None:
        """What the library said when it would not work with the settings of the caller's engine."""
        return next((json.loads(entry.data) for entry in self.entries if entry.kind == "R"), None)

    @property
    def sent(self) -> bool:
        return any(entry.kind == "P" for entry in self.entries)

    def end(self) -> Image:
        """What it left."""
        disk = Disk(self.prepared)
        for entry in self.entries:
            disk.play(entry)
        return disk.whole()


class Door:
    """The provider's door: what passes it has been sent, and must have been sure before."""

    def __init__(self, sandbox: Sandbox, log: Path) -> None:
        self._inside, self._log = sandbox, str(log)

    def begin(self, request: Request) -> Exchange:
        if request.method == "POST":
            what = [request.method, request.target, dict(request.headers), request.body.decode()]
            record(self._log, "P", what)
        return self._inside.begin(request)

    def finish(self, exchange: Exchange) -> Answer:
        return self._inside.finish(exchange)


def missing() -> str | None:
    """What is not on this machine, in a sentence."""
    if sys.platform != "linux" or shutil.which(compiler()[0]) is None:
        return (
            "python -m tests.powercut needs Linux and a C compiler (cc, or what CC names), for tests/powercut/layer.c."
        )
    return None


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def compiled(where: Path) -> Path:
    """The layer, ready for LD_PRELOAD."""
    layer = where / "layer.so"
    source = Path(__file__).with_name("layer.c")
    subprocess.run([*compiler(), "-shared", "-fPIC", "-O1", "-o", str(layer), str(source), "-ldl"], check=True)
    return layer


def provider(work: str, where: Path) -> tuple[Sandbox, Image]:
    """Whom the process speaks to, and the store that it finds."""
    sandbox = Sandbox()
    if work != "reconciliation":
        sandbox.fault("lost_reply")  # of the first charge: it is sent again
        return sandbox, {}
    path = where / "night.db"
    mass = Mass(sandbox, path, datetime.combine(yesterday(), moment(), UTC))
    mass.agree(3)
    mass.disagree()
    prepared = path.read_bytes()
    path.unlink()
    return sandbox, {STORE: prepared}


def recorded(work: str, layer: Path, where: Path) -> Recording:
    """Run it once, to its end."""
    folder, log = where / work / "disk", where / work / "log"
    folder.mkdir(parents=True)
    log.touch()
    sandbox, prepared = provider(work, where)
    for name, content in prepared.items():
        (folder / name).write_bytes(content)
    with SandboxServer(Door(sandbox, log)) as server:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LD_PRELOAD": str(layer),
            "POWERCUT_FOLDER": str(folder),
            "POWERCUT_LOG": str(log),
        }
        command = [sys.executable, "-m", "tests.powercut.child", work, str(folder), server.url]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=SECONDS_MAX)
    made = Recording(work, prepared, tuple(entries(log)))
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert made.end() == left, f"the layer has not seen every change of {work}: {sorted(left)}"
    assert any(entry.kind in "SD" for entry in made.entries) or "OFF" in work, f"the layer has seen no sync of {work}"
    return made
