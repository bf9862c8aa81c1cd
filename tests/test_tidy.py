"""A watch on outliers: long files, long functions, modules that do not say what lives in them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 70  # a screen

# What may be longer, each with its reason: "path" or "path:function" → why.
EXCEPTIONS: dict[str, str] = {}

PATHS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("gateway_client", "reconcile", "cli", "tests")
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


def test_exceptions_are_needed() -> None:
    """An exception that is no longer needed is removed."""
    assert set(EXCEPTIONS) <= {name for path in PATHS for name in outliers(path)}


@pytest.mark.parametrize("path", PATHS)
def test_modules_say_what_lives_in_them(path: str) -> None:
    """Every module begins with a docstring of its own."""
    assert ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"), path))
