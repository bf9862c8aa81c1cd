"""Real processes, ended by SIGKILL at named points and at random, on a real database and a real port: 300 in all.

Who is forked, and how the points are reached, is in `kill_child.py`; in one process, `test_kill_effects.py`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_client import Sandbox
from tests.kill_child import POINTS, order
from tests.kill_yard import DATABASES, ROOT, Yard, database_of, yard

TIMES_EACH = {"sqlite": 8, "postgresql": 2}  # of ten points
TIMES_AT_RANDOM = 106  # on each database
TIMES_FRESH = 4
SECONDS_MAX = 120.0  # a busy machine takes four times as long as an idle one

# point → the row afterwards, and what the provider has charged by then (FAULTS A)
LEFT = {
    "p1": (None, 0),
    "p1_send": (None, 0),
    "p2": ("prepared", 0),
    "p3": ("sending", 0),
    "p3_claim": ("sending", 0),
    "p4": ("sending", 0),
    "p5": ("sending", 1),
    "p6": ("sending", 1),
    "p6_commit": ("sending", 1),
    "p7": ("succeeded", 1),
}


@pytest.fixture(params=DATABASES)
def rough(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    rates = {"lost_reply": 0.1, "lost_request": 0.05, "error_500_charged": 0.05, "error_500": 0.03, "slow": 0.1}
    rates |= {"unavailable_503": 0.05, "in_use_409": 0.05, "duplicate": 0.05, "cut_body": 0.05}
    sandbox = Sandbox(seed=7, faults=rates)
    sandbox.slow_s = 0.02
    with yard(database_of(request.param, tmp_path), sandbox) as made:
        yield made


def test_three_hundred() -> None:
    """Three hundred processes are ended here, eight of them fresh ones of `paycli`."""
    assert set(POINTS) == set(LEFT)
    assert sum(TIMES_EACH.values()) * len(POINTS) + len(DATABASES) * (TIMES_AT_RANDOM + TIMES_FRESH) >= 300


@pytest.mark.parametrize("kind", DATABASES)
def test_named_points(kind: str, tmp_path: Path) -> None:
    """SIGKILL at p1 to p7 leaves the row that is expected, and whoever comes next charges once (F01–F07)."""
    with yard(database_of(kind, tmp_path), Sandbox()) as calm:
        for number in range(TIMES_EACH[kind]):
            for point, (state, charged) in LEFT.items():
                intent_id = f"order_{number}_{point}"
                report = calm.run({"intents": [intent_id], "point": point})
                assert (point, report["signals"], report["states"]) == (point, [signal.SIGKILL], [None])
                assert (point, calm.awaited(intent_id, charged)) == (point, charged)
                assert (point, calm.states().get(intent_id)) == (point, state)
            assert calm.run({})["states"] == ["resumed"]
            posts = calm.posts()
            intents = [f"order_{number}_{point}" for point in LEFT]
            assert calm.run({"intents": intents})["states"] == ["succeeded"] * len(LEFT)
            # Only p1 and p1_send left nothing to resume: every other one is returned as it is, with no request (F07).
            assert calm.posts() == posts + 2
            assert [calm.sandbox.succeeded()[intent_id] for intent_id in intents] == [1] * len(LEFT)
        assert calm.sound() == "ok"


def test_random_moments(rough: Yard) -> None:
    """SIGKILL at any moment, beside a provider that loses and delays: one charge, and none lost (S1, S7, S8)."""
    chance = random.Random(7)
    deadline = time.monotonic() + SECONDS_MAX
    life_s = min(rough.run({"intents": [f"warm_{number}"]})["elapsed_s"] for number in range(3))
    intents = [f"warm_{number}" for number in range(3)]
    killed = 0
    while killed < TIMES_AT_RANDOM:
        assert time.monotonic() < deadline, f"only {killed} processes were ended"
        intents.append(f"order_{len(intents)}")
        report = rough.run({"intents": [intents[-1]], "delay_s": chance.uniform(0.0, life_s)})
        killed += report["signals"].count(signal.SIGKILL)
        assert report["signals"] in ([signal.SIGKILL], [0])
        if len(intents) % 20 == 0:
            rough.run({})
    check(rough, intents)


def check(rough: Yard, intents: list[str]) -> None:
    """After a few resumes, then the callers' own calls: one charge for each intent that can have one."""
    for _ in range(10):
        if rough.run({})["states"] == ["resumed"]:
            break
    acknowledged = set(rough.states())
    paid = rough.sandbox.succeeded()
    assert {intent_id for intent_id in paid if paid[intent_id] > 1} == set()
    assert set(paid) <= acknowledged  # nothing was charged without a row
    rough.sandbox.faults = {}
    with rough.client() as client:
        told = {intent_id: client.charge(order(intent_id)).state.value for intent_id in intents}
    paid = rough.sandbox.succeeded()
    # A saved 500 that did not charge proves nothing for days: such a charge stays unknown.
    saved = {dict(r.params).get("metadata[paycli_intent]") for r in rough.sandbox.requests if r.fault == "error_500"}
    assert told == {
        intent_id: "unknown" if intent_id in saved and not paid[intent_id] else "succeeded" for intent_id in intents
    }
    assert {intent_id: n for intent_id, n in paid.items() if n != 1} == {}
    assert {intent_id for intent_id, state in rough.states().items() if state == "succeeded"} == set(paid)
    assert rough.sound() == "ok"


def test_fresh_processes(rough: Yard, tmp_path: Path) -> None:
    """A fresh `paycli charge` is ended at any moment, its imports included; the next charges once (F01–F07)."""
    chance = random.Random(11)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PAYCLI_", "STRIPE_"))},
        "STRIPE_API_KEY": rough.sandbox.api_key,
        "PAYCLI_STRIPE_API_BASE": rough.url,
        "PAYCLI_DATABASE_URL": rough.database,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", "from cli.main import run; run()"]

    def paycli(*words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, *words], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    rough.sandbox.faults = {}
    amount = "--amount 1999 --currency usd --payment-method pm_card_visa".split()
    intents: list[str] = []
    killed = 0
    while killed < TIMES_FRESH:
        assert len(intents) < 2 * TIMES_FRESH, f"only {killed} processes were ended"
        intents.append(f"fresh_{len(intents)}")
        late, posts = len(intents) % 2 == 0, rough.posts()
        with paycli("charge", intents[-1], *amount) as process:
            # Half of them die when their request has arrived, or soon after; the others before that.
            deadline = time.monotonic() + 20
            while late and rough.posts() == posts and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(chance.uniform(0.0, 0.003 if late else 0.4))
            process.kill()
            said = process.stderr.read().decode() if process.stderr else ""
            assert process.wait(20) in (-signal.SIGKILL, 0), said
        killed += process.returncode == -signal.SIGKILL
    check(rough, intents)
