"""S25: the same seeds give the same traces on every interpreter that is present, and with every hash seed.

    python -m tests.sim.determinism          compares this interpreter with `python3.11` … `python3.13` of the PATH
    python -m tests.sim.determinism --print  what one of them says

Another interpreter gets an environment of its own under `.venv/`, with the pinned packages that the library needs.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.sim.campaign import digests

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
HASH_SEEDS = ("0", "1", "4294967295")
SCHEDULES = 100


def main() -> int:
    """0: all say the same."""
    if sys.argv[1:] == ["--print"]:
        print(hashlib.sha256("\n".join(digests(0, SCHEDULES)).encode()).hexdigest())
        return 0
    said: dict[str, str] = {}
    for version, python in interpreters().items():
        for seed in HASH_SEEDS:
            said[f"Python {version}, hash seed {seed}"] = ask(python, seed)
    for who, digest in said.items():
        print(f"{who}: {digest[:16]}")
    missing = [version for version in VERSIONS if not any(who.startswith(f"Python {version}.") for who in said)]
    if missing:
        print(f"not on this machine: Python {', '.join(missing)}")
    same = len(set(said.values())) == 1
    print(f"{SCHEDULES} schedules, {'the same traces everywhere' if same else 'the traces differ'}")
    return 0 if same else 1


def interpreters() -> dict[str, str]:
    """Every interpreter that is present, with our packages, by its version."""
    found = {sys.version.split()[0]: sys.executable}
    for version in VERSIONS:
        if not any(have.startswith(f"{version}.") for have in found):
            full = asked_version(f"python{version}")
            if full is not None:
                found[full] = environment(f"python{version}", version)
    return dict(sorted(found.items()))


def asked_version(python: str) -> str | None:
    """The version of a command, None when there is none."""
    try:
        told = subprocess.run(
            [python, "-c", "import sys; print(sys.version.split()[0])"], check=False, capture_output=True, text=True
        )
    except OSError:
        return None
    return told.stdout.strip() if told.returncode == 0 else None


def environment(python: str, version: str) -> str:
    """An environment with what the library imports, made once."""
    folder = ROOT / ".venv" / f"python{version}"
    inside = str(folder / "bin" / "python")
    if not (folder / "made.stamp").exists():
        needs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
        pip = [inside, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *needs], check=True, capture_output=True)
        (folder / "made.stamp").touch()
    return inside


def ask(python: str, hash_seed: str) -> str:
    """What an interpreter says of the same seeds."""
    surroundings = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [python, "-m", "tests.sim.determinism", "--print"]
    told = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=600, check=False)
    return told.stdout.strip() or f"failed: {told.stderr.strip()[-300:]}"


if __name__ == "__main__":
    sys.exit(main())
