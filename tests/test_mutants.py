"""The mutants: each can be put in place, and the runner kills. Killing all of them is `python -m tests.mutants`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.mutants import seen
from tests.mutants.listed import MUTANTS
from tests.mutants.mutant import ROOT, Mutant
from tests.sim.kept import KEPT, PROMISE

INCIDENT = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+ #[0-9]+: .+")
PLANTED = {
    "new key per try",
    "random key and no row before the call",
    "timeout treated as failed",
    "409 answered with a new key",
    "saved 500 treated as failed",
    "re-send after 24 h",
    "reconciliation skips the window's edge",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_mutants_can_be_put_in_place(mutant: Mutant) -> None:
    """A mutant's statement is in its file just once, and what becomes of it is another module that compiles."""
    for file, source in mutant.sources.items():  # raises when a statement is not there just once
        assert source != (ROOT / file).read_text(encoding="utf-8")
        compile(source, file, "exec")


def test_mutants_have_names_of_their_own() -> None:
    """No two mutants have the same name, or the same mistake."""
    names = Counter(mutant.name for mutant in MUTANTS)
    mistakes = Counter(mutant.places for mutant in MUTANTS)
    assert [name for name, times in (names + mistakes).items() if times > 1] == []


def test_there_are_enough() -> None:
    """At least 160, ten of them incidents that name their thread, and every bug of FAULTS §3 that a mutant can be."""
    incidents = [mutant.incident for mutant in MUTANTS if mutant.incident is not None]
    assert len(MUTANTS) >= 160
    assert len(incidents) >= 10
    assert [incident for incident in incidents if not INCIDENT.fullmatch(incident)] == []
    assert {mutant.planted for mutant in MUTANTS if mutant.planted is not None} == PLANTED


def test_planted_bugs_are_those_of_the_table() -> None:
    """The planted bugs are lines of the table in FAULTS §3."""
    table = (ROOT / "docs" / "FAULTS.md").read_text(encoding="utf-8").partition("## 3.")[2]
    assert [name for name in PLANTED if f"| {name} |" not in table] == []


def test_where_each_is_seen_is_written_down() -> None:
    """A mutant has a schedule or a test that is named for it, or a seed in the table, which `--record` writes anew."""
    assert sorted(seen.read()) == sorted(mutant.name for mutant in MUTANTS if mutant.sought)


def test_what_is_named_for_a_mutant_is_one_thing() -> None:
    """A mutant names one schedule, or one test, and not both."""
    named = {mutant.kept for mutant in MUTANTS if mutant.kept is not None}
    assert {name: sum(kept.startswith(name) for kept in KEPT) for name in named} == dict.fromkeys(named, 1)
    assert [mutant.name for mutant in MUTANTS if mutant.kept is not None and mutant.test is not None] == []


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mutants", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)


def test_the_quick_ones_are_killed() -> None:
    """Two mistakes that every other schedule shows are killed, each by the check that forbids it."""
    ended = run("network inside a transaction", "the time of the first send is not on disk")
    killed = re.findall(r"^(.+?) {2,}([0-9,]+)  (\S+)$", ended.stdout, re.MULTILINE)
    assert {name: check for name, seeds, check in killed} == {
        "network inside a transaction": "S23",
        "the time of the first send is not on disk": "S2",
    }
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_no_schedule_sees_is_killed_by_its_test() -> None:
    """Grouped commits have threads: their mistakes are killed by the very tests that are named for them."""
    ended = run("what a work wrote before it failed", "an unconfirmed group believed")
    killed = re.findall(r"^(.+?) {2,}0  (\S+)$", ended.stdout, re.MULTILINE)
    assert {name: test.partition("::")[2] for name, test in killed} == {
        "a savepoint forgotten: what a work wrote before it failed is committed with the others": (
            "test_a_work_that_fails_fails_alone[sqlite]"
        ),
        "an unconfirmed group believed": "test_a_commit_that_nobody_confirmed[sqlite-False]",
    }
    assert (ended.returncode, ended.stderr) == (0, "")


def test_kept_breaks_of_the_promise_show_their_mistakes() -> None:
    """Each schedule of P2 to P12 does not hold once its mistake is made."""
    named = {mutant.kept for mutant in MUTANTS if mutant.kept is not None}
    ended = run("--kept")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert {name.partition(":")[0] for name in PROMISE} <= {name.partition(":")[0] for name in named}


def test_a_survivor_is_told() -> None:
    """What no seed has shown survives, and that is a failure."""
    ended = run("--search", "--seeds", "1", "half-open edge shifted")
    assert "Survive: half-open edge shifted" in ended.stdout
    assert ended.returncode == 1
