"""Who may use a provider's words: its gateway translates them, the sandbox speaks them, no other code compares any."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SPEAKERS = ("gateway_client/gateways/stripe", "gateway_client/sandbox/")

# What compares a status all the same: path → why.
EXCEPTIONS: dict[str, str] = {
    "gateway_client/wire.py": "HTTP itself: an interim answer is none",
    "cli/audit.py": "counts the sandbox's ledger, in its words",
    "cli/demo_orders.py": "counts the sandbox's ledger, in its words",
}
STATUS = ("status", "status_code")
WORDS = ("requires_payment_method", "requires_capture", "requires_confirmation")

PATHS = sorted(
    name
    for folder in ("gateway_client", "reconcile", "cli")
    for path in (ROOT / folder).rglob("*.py")
    if not (name := str(path.relative_to(ROOT))).startswith(SPEAKERS)
)


def is_status(node: ast.expr) -> bool:
    """Whether an expression is a status: `reply.status`, `row["status"]`, `items.c.status`."""
    if isinstance(node, ast.Attribute):
        return node.attr in STATUS
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in STATUS


def compared(source: str) -> Iterator[int]:
    """The lines in which a status is compared, in Python or in SQL, or matched."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Compare():
                found = any(map(is_status, (node.left, *node.comparators)))
            case ast.Call(func=ast.Attribute(attr="in_" | "not_in" | "is_" | "is_not", value=value)):
                found = is_status(value)
            case ast.Match():
                found = is_status(node.subject)
            case _:
                continue
        if found:
            yield node.lineno


def words(source: str) -> Iterator[str]:
    """Stripe's words for what an intent waits for, in any text of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (word for word in WORDS if word in node.value)


@pytest.mark.parametrize("path", PATHS)
def test_no_status_is_compared(path: str) -> None:
    """A status, HTTP's or an object's, is compared by a gateway alone: all others know its class, and what is shown."""
    found = list(compared((ROOT / path).read_text(encoding="utf-8")))
    assert found == [] or path in EXCEPTIONS


@pytest.mark.parametrize("path", PATHS)
def test_no_word_of_the_provider(path: str) -> None:
    """No word of Stripe's for what its object waits for stands outside of its gateway and the sandbox."""
    assert list(words((ROOT / path).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", EXCEPTIONS)
def test_exceptions_are_needed(path: str) -> None:
    """An exception that is no longer needed is removed."""
    assert list(compared((ROOT / path).read_text(encoding="utf-8"))) != []


@pytest.mark.parametrize(
    "source",
    [
        "answer.status in (502, 503)",
        "500 <= reply.status",
        'row["status"] == 500',
        'items.c.status != "succeeded"',
        "items.c.status.in_(words)",
        "match item.status:\n    case _: pass",
    ],
)
def test_a_comparison_is_seen(source: str) -> None:
    """Each way to compare one is seen."""
    assert list(compared(source)) == [1]
