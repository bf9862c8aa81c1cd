"""Run the benchmark: `python -m benchmarks [SECTION …] [--quick] [--full] [--rounds N] [--publish]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import picture
from benchmarks.backlog import worker
from benchmarks.bench import FULL, NORMAL, QUICK, Bench
from benchmarks.charging import charge, crowd
from benchmarks.counting import counts
from benchmarks.night import night
from benchmarks.places import Places
from benchmarks.provider import CannotBuild, build
from benchmarks.publish import publish
from benchmarks.report import figures_of, show, stored, tables_of
from benchmarks.sections import Section
from benchmarks.settled import settled
from benchmarks.startup import startup
from benchmarks.transport import transport

RESULTS = Path(__file__).with_name("results")
SECTIONS: dict[str, Callable[[Bench], Section]] = {
    "charge": charge,
    "counts": counts,
    "crowd": crowd,
    "night": night,
    "settled": settled,
    "worker": worker,
    "startup": startup,
    "transport": transport,
}
PACKAGES = ("SQLAlchemy", "sqlmodel", "httpx", "stripe", "aiohttp", "dbos", "psycopg")


def main(words: list[str] | None = None) -> int:
    """Measure, print, store; 1 when something failed, 2 when it cannot begin."""
    wanted = _arguments(words)
    console = Console(width=None if sys.stdout.isatty() else 150)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that the server and the files go, too
    places = Places(wanted.folder, wanted.postgres)
    begun = time.monotonic()
    try:
        program = build(places.folder)
        scale = FULL if wanted.full else QUICK if wanted.quick else NORMAL
        if wanted.rounds is not None:
            scale = replace(scale, rounds=wanted.rounds, crowd_rounds=min(wanted.rounds, scale.crowd_rounds))

        def say(text: str) -> None:
            print(f"{time.monotonic() - begun:6.0f} s  {text}", file=sys.stderr, flush=True)

        bench = Bench(places, program, scale, wanted.delay_ms, say)
        about = _about(bench)  # the server's version is asked for while there is one
        sections = [SECTIONS[name](bench) for name in wanted.sections or SECTIONS]
    except CannotBuild as why:
        print(f"benchmarks: {why}", file=sys.stderr)
        return 2
    finally:
        places.close()
    about["seconds"] = round(time.monotonic() - begun)
    _keep(sections, about, console, wanted.publish)
    return 1 if any(section.errors for section in sections) else 0


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(SECTIONS)}; all of them if none"
    )
    parser.add_argument("--quick", action="store_true", help="see that every section works, within three minutes")
    parser.add_argument("--full", action="store_true", help="measure the night of a million charges, too: hours")
    parser.add_argument("--rounds", type=int, help="rounds of each section")
    parser.add_argument("--delay-ms", type=int, default=0, help="delay each answer of the provider by so much")
    parser.add_argument("--folder", type=Path, help="where databases are made: on the disk that is to be measured")
    parser.add_argument("--postgres", metavar="URL", help="a PostgreSQL server to use instead of the embedded one")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md and its picture from this run")
    wanted = parser.parse_args(words)
    unknown = [name for name in wanted.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {', '.join(unknown)}: sections are {', '.join(SECTIONS)}")
    if wanted.rounds is not None and wanted.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return wanted


def _about(bench: Bench) -> dict[str, Any]:
    """Return where and how a run was made: figures of two machines, or of two versions, are not compared."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "postgresql": bench.places.value("SHOW server_version"),
        "packages": {name: _version(name) for name in PACKAGES},
        "scale": asdict(bench.scale),
        "delay_ms": bench.delay_ms,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=RESULTS.parent,
    )
    return done.stdout.strip() or None


def _keep(sections: list[Section], about: dict[str, Any], console: Console, to_docs: bool) -> None:
    """Print the tables, and store the run: JSON and, where it can be drawn, the picture."""
    show(tables_of(sections), console)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{about['at'].replace(':', '').partition('+')[0]}.json"
    file.write_text(json.dumps(stored(sections, about), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"stored in {file}", soft_wrap=True)
    why = picture.missing()
    if why is None:
        picture.draw(figures_of(sections), file.with_suffix(".svg"))
        console.print(f"drawn in {file.with_suffix('.svg')}", soft_wrap=True)
    else:
        console.print(f"not drawn: {why}")
    if to_docs:
        publish(sections, about, file)


if __name__ == "__main__":
    sys.exit(main())
