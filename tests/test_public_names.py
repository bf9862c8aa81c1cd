"""Packages whose names are imported when they are asked for: the same names and objects as if all were imported."""

from __future__ import annotations

import ast
import importlib
import os
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import gateway_client
from gateway_client import InvalidInput, Money, PaymentIntent, RetryPolicy, State

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = "gateway_client gateway_client.store reconcile".split()


def child(code: str, *options: str) -> str:
    """What a process of its own prints."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def named(package: str) -> dict[str, str]:
    """The module of each public name, as type checkers read it in a package's source."""
    tree = ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith(package + ".")
        for alias in node.names
        if alias.name != "on_demand"
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_what_type_checkers_read(package: str) -> None:
    """Each public name is the object of the module that the source names, and `dir` and `import *` tell of all."""
    module, names = importlib.import_module(package), named(package)
    assert sorted(names) == sorted(module.__all__)
    for name, where in names.items():
        assert getattr(module, name) is getattr(importlib.import_module(where), name)
    assert set(module.__all__) <= set(dir(module))
    got = child(f"from {package} import *\nprint(*sorted(name for name in vars() if name[0] != '_'))", "-W", "error")
    assert got.split() == sorted(module.__all__)
    fresh = child(f"import {package} as it\nprint(*dir(it))")
    assert set(module.__all__) <= set(fresh.split())


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_none_is_an_attribute_error(package: str) -> None:
    """What a package does not name is missing in Python's own words: `hasattr` and `from … import` work as ever."""
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'cleint'"):
        module.cleint  # noqa: B018
    assert not hasattr(module, "cleint")
    with pytest.raises(ImportError, match="cannot import name 'cleint'"):
        exec(f"from {package} import cleint")


def test_public_objects_are_pickled_and_compared() -> None:
    """What a process pickles another one reads, which has imported nothing yet; errors are those of one class."""
    intent = PaymentIntent("order_1", Money(1999, "usd"), "pm_card_visa")
    whole = (intent, RetryPolicy(sends_max=2), State.UNKNOWN, InvalidInput("amount", "is wrong"), timedelta(1))
    code = (
        "import pickle, sys\n"
        f"intent, retry, state, error, _ = pickle.loads({pickle.dumps(whole)!r})\n"
        "import gateway_client\n"
        "print(isinstance(intent, gateway_client.PaymentIntent), isinstance(error, gateway_client.InvalidInput))\n"
        "print(intent.amount == gateway_client.Money(1999, 'usd'), retry == gateway_client.RetryPolicy(sends_max=2))\n"
        "print(state is gateway_client.State.UNKNOWN, issubclass(type(error), gateway_client.ChargeOnceError))\n"
    )
    assert child(code).split() == ["True"] * 6


THREADS = """
import threading
import gateway_client
names, started, found, failed = gateway_client.__all__, threading.Barrier(16), [], []

def ask(number):
    try:
        started.wait(30)
        turned = names[number * 2 :] + names[: number * 2]
        got = {name: getattr(gateway_client, name) for name in turned}
        found.append(tuple(id(got[name]) for name in names))
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join(60)
print(len(found), len(set(found)), failed)
"""


def test_threads_that_ask_at_once_get_the_same() -> None:
    """Sixteen threads that ask a fresh package for all names at one moment, each in its order, get the same objects."""
    for _ in range(3):
        assert child(THREADS).strip() == "16 1 []"


FORKED = """
import os, sys
import gateway_client
names = ("Client", "Stripe", "Sandbox", "Worker")
if sys.argv[1] == "before":
    for name in names: getattr(gateway_client, name)
child = os.fork()
found = [getattr(gateway_client, name).__name__ for name in names]
if not child:
    os._exit(0 if found == list(names) else 1)
print(found == list(names), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_names_are_there_on_both_sides_of_a_fork(when: str) -> None:
    """A server that forks its workers may have asked for the names before or not."""
    code = f"import sys\nsys.argv.append({when!r})\n{FORKED}"
    assert child(code).strip() == "True 0"


def test_the_version_of_a_name_that_was_replaced_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of a host's may put something in the place of a public name, and take it away again."""
    before = gateway_client.Client
    monkeypatch.setattr("gateway_client.Client", None)
    assert gateway_client.Client is None
    monkeypatch.undo()
    assert gateway_client.Client is before
