"""Build, start and question the provider that is measured against: `provider.c`."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("provider.c")
COMPILERS = ("cc", "gcc", "clang")
API_KEY = "sk_test_bench"
ACCOUNT = "acct_1Bench"


class CannotBuild(Exception):
    """Say what is missing to build the provider."""


@dataclass(frozen=True, slots=True)
class Night:
    """Name the charges of one day that the provider lists: how many, from when (epoch seconds), and the keys' file."""

    count: int
    start: int
    keys: Path


@dataclass(frozen=True, slots=True)
class Provider:
    """Hold the address of a provider that runs, and ask for its counters."""

    url: str

    def counters(self) -> dict[str, int]:
        """Return how many requests, replays, payments and connections it has seen, and its CPU in milliseconds."""
        with urllib.request.urlopen(f"{self.url}/bench", timeout=10) as reply:
            found: dict[str, int] = json.load(reply)
        return found


def build(folder: Path) -> Path:
    """Compile the provider into a folder and return the program. Raises CannotBuild."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise CannotBuild(
            f"there is no C compiler: none of {', '.join(COMPILERS)} is on the PATH. The benchmark's provider is one C "
            "file, because one in Python would be the bottleneck; install gcc or clang with its C library's headers"
        )
    program = folder / "provider"
    done = subprocess.run([compiler, "-O2", "-o", program, SOURCE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBuild(f"{compiler} cannot compile {SOURCE.name} (it needs Linux):\n{done.stderr.strip()[:2000]}")
    return program


@contextmanager
def serving(program: Path, *, night: Night | None = None, delay_ms: int = 0) -> Iterator[Provider]:
    """Run a provider of its own, on a free port of loopback, until the block ends."""
    words: Sequence[str | Path] = ["--delay-ms", str(delay_ms)]
    if night is not None:
        words = [*words, "--night", str(night.count), "--start", str(night.start), "--keys", night.keys]
    process = subprocess.Popen([program, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("port "):
            raise CannotBuild(f"the provider did not start (exit status {process.wait(5)})")
        yield Provider(f"http://127.0.0.1:{int(line.split()[1])}")
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
