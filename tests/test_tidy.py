"""A watch on outliers: long files, long functions, modules that do not say what lives in them."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.lowest import bounds

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 70  # a screen

# What may be longer, each with its reason: "path" or "path:function" → why.
EXCEPTIONS: dict[str, str] = {}

PATHS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("gateway_client", "reconcile", "cli", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)


def outliers(path: str) -> dict[str, int]:
    source = (ROOT / path).read_text(encoding="utf-8")
    lengths = {
        f"{path}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(source, path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    found = {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX}
    if (lines := len(source.splitlines())) > FILE_LINES_MAX:
        found[path] = lines
    return found


@pytest.mark.parametrize("path", PATHS)
def test_files_and_functions_stay_short(path: str) -> None:
    """A file has at most 350 lines and a function fits a screen, or the list of exceptions says why not."""
    assert {name: lines for name, lines in outliers(path).items() if name not in EXCEPTIONS} == {}


@pytest.mark.parametrize("package", ["gateway_client", "reconcile", "cli"])
def test_packages_are_typed(package: str) -> None:
    """F3: each package that is installed says that it is typed, and its mark is installed with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert (ROOT / package / "py.typed").is_file()
    assert project["tool"]["setuptools"]["package-data"][package] == ["py.typed"]


def test_lower_bounds() -> None:
    """F3: each requirement has a lower bound, which `make lowest` installs and tries; what we pin is above it."""
    pinned = dict(re.findall(r"^([A-Za-z0-9-]+)==([0-9.]+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
    numbers = {name.lower(): _number(version) for name, version in pinned.items()}
    assert [name for name, version in bounds().items() if _number(version) > numbers[name]] == []
    assert "\nmake lowest\n" in (ROOT / ".ci" / "run").read_text("utf-8")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_exceptions_are_needed() -> None:
    """An exception that is no longer needed is removed."""
    assert set(EXCEPTIONS) <= {name for path in PATHS for name in outliers(path)}


@pytest.mark.parametrize("path", PATHS)
def test_modules_say_what_lives_in_them(path: str) -> None:
    """Every module begins with a docstring of its own."""
    assert ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"), path))


def test_no_committed_file_names_a_package_index() -> None:
    """Where packages come from is the machine's own setting: no file names an index, and the pins have no address."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:  # an exported tree without its history: every file counts
        names = [
            str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts
        ]
    else:
        names = listed.stdout.splitlines()
    hosts = ["pypi" + ".org", "python" + "hosted", "--index" + "-url", "--find" + "-links"]
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8", errors="replace") for name in names if (ROOT / name).exists()
    }
    assert [name for name, text in texts.items() if any(host in text for host in hosts)] == []
    assert "://" not in texts["constraints.txt"]
