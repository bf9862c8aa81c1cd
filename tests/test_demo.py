"""The demo and its audit: the run is real, and a wrong ledger, planted, is seen to fail."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli import demo_load, demo_report
from cli.audit import compare
from cli.demo_planted import PLANTED, NightFigures
from gateway_client import Charge, Sandbox, State
from gateway_client.finding import Action, Code, Finding
from reconcile import RunResult
from tests.cli_world import World, world

ASKED = demo_load.intents(7)
THEN = datetime(2026, 11, 20, tzinfo=UTC)

Ledgers = tuple[list[dict[str, Any]], list[Charge]]


def ledgers() -> Ledgers:
    """Five intents charged once, the sixth declined, the seventh unknown."""
    there: list[dict[str, Any]] = []
    here: list[Charge] = []
    for number, intent in enumerate(ASKED):
        state = State.SUCCEEDED if number < 5 else State.DECLINED if number == 5 else State.UNKNOWN
        money = {"amount": intent.amount.amount, "currency": "usd"}
        if number < 6:
            status = "succeeded" if number < 5 else "failed"
            metadata = {"paycli_intent": intent.intent_id}
            there.append({"id": f"ch_{number}", "status": status, "metadata": metadata, **money})
        name = f"ch_{number}" if number < 6 else None
        row = Charge(intent.intent_id, 1, state, f"pc1_{number}", **money, provider_intent_id=None,  # type: ignore[arg-type]
                     provider_charge_id=name, sends=1, created_at=THEN, first_sent_at=THEN, settled_at=None,
                     reason=None, last_server_error_at=None if number < 6 else THEN)  # fmt: skip
        here.append(row)
    return there, here


def test_ledgers_that_agree() -> None:
    """Ledgers that agree are right, and each figure is counted from them."""
    figures = compare(ASKED, *ledgers())
    assert figures.right
    assert (figures.charged_once, figures.charged_of, len(figures.pending)) == (5, 5, 1)
    assert figures.provider == figures.database
    assert (figures.provider.charged, figures.provider.declined, figures.provider.neither) == (5, 1, 1)


def doubled(there: list[dict[str, Any]], here: list[Charge]) -> None:
    there.append({**there[0], "id": "ch_again"})


def lost_here(there: list[dict[str, Any]], here: list[Charge]) -> None:
    here[0] = replace(here[0], state=State.UNKNOWN)


def refused_here(there: list[dict[str, Any]], here: list[Charge]) -> None:
    here[0] = replace(here[0], state=State.ABSENT)


def lost_there(there: list[dict[str, Any]], here: list[Charge]) -> None:
    del there[0]


def no_row(there: list[dict[str, Any]], here: list[Charge]) -> None:
    del here[6]


def other_amount(there: list[dict[str, Any]], here: list[Charge]) -> None:
    there[0]["amount"] += 1


def other_charge(there: list[dict[str, Any]], here: list[Charge]) -> None:
    here[0] = replace(here[0], provider_charge_id="ch_other")


def no_decline_there(there: list[dict[str, Any]], here: list[Charge]) -> None:
    del there[5]


def unasked(there: list[dict[str, Any]], here: list[Charge]) -> None:
    there.append({**there[0], "id": "ch_x", "metadata": {"paycli_intent": "order_999"}})


def nameless(there: list[dict[str, Any]], here: list[Charge]) -> None:
    there.append({**there[0], "id": "ch_x", "metadata": {}})


@pytest.mark.parametrize(
    ("plant", "field"),
    [
        (doubled, "doubled"),
        (lost_here, "lost"),
        (refused_here, "lost"),
        (lost_there, "lost"),
        (no_row, "lost"),
        (other_amount, "wrong"),
        (other_charge, "wrong"),
        (no_decline_there, "wrong"),
        (unasked, "strangers"),
        (nameless, "strangers"),
    ],
)
def test_planted_errors_are_seen(plant: Any, field: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each way in which two ledgers can disagree makes the figures wrong, is named, and is the verdict."""
    there, here = ledgers()
    plant(there, here)
    figures = compare(ASKED, there, here)
    assert not figures.right
    assert len(getattr(figures, field)) == 1
    demo_report.verdict(figures, figures, night())
    assert capsys.readouterr().out.strip().startswith("WRONG, the ledgers do not agree")


def night(lost: tuple[str, str] | None = None, **changes: Any) -> NightFigures:
    """A night that found what was planted, but one thing; `changes` of its two runs."""
    found = tuple(
        Finding(
            *(f"id_{code}", Code(code), intent, 1, None, Action(action), "here", "there", "detail", THEN),
            closed_at=None,
            closed_by=None,
            because=None,
        )
        for (code, intent), (action, _) in PLANTED.items()
        if (code, intent) != lost
    )
    first = RunResult("run_1", "2026-11-20", "UTC", THEN, THEN, THEN, True, None, False, 6, 5, 2, 2, 3, 0, 3, 5, found)
    second = replace(first, repaired=0, news=0)
    alerts = changes.pop("alerts", 2)
    return NightFigures(
        replace(first, complete=changes.pop("complete", True)), replace(second, **changes), alerts=alerts
    )


def test_a_night_that_found_everything() -> None:
    """A night is right when it found exactly what was planted, the second run was silent, and somebody was told."""
    assert night().right


@pytest.mark.parametrize("lost", PLANTED)
def test_a_night_that_missed_something(lost: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """One thing that was planted and not found makes the demo wrong, and is named."""
    figures = compare(ASKED, *ledgers())
    assert not night(lost).right
    demo_report.report_night(night(lost), figures)
    demo_report.verdict(figures, figures, night(lost))
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines() if lost[1] in line] == ["FOUND"]
    assert out.splitlines()[-1].startswith("WRONG, the night did not find what was planted")


@pytest.mark.parametrize("wrong", [{"complete": False}, {"news": 1}, {"repaired": 1}, {"alerts": 0}])
def test_a_night_that_went_wrong(wrong: dict[str, Any]) -> None:
    """An incomplete run, a second run that changed something, and a night without an alert are wrong as well."""
    assert not night(**wrong).right


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with world(tmp_path_factory.mktemp("demo")) as made:
        yield made


def test_demo_runs(shell: World) -> None:
    """The demo charges, kills a process in mid-charge, resumes, and ends with ledgers that agree; a seed replays it."""
    first = shell.paycli("demo", "--intents", "12", "--seed", "3")
    assert (first.code, first.out.splitlines()[-1].partition(":")[0]) == (0, "The ledgers agree")
    assert re.search(r"Killed \(exit status -9\) while [12] of its requests were being carried out", first.err)
    assert first.out == shell.paycli("demo", "--intents", "12", "--seed", "3").out


def test_demo_sees_a_double_charge(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the provider's ledger holds one success twice, the demo is exit 1."""
    honest = vars(Sandbox)["charges"].fget

    def doubled(self: Sandbox) -> tuple[dict[str, object], ...]:
        charges: tuple[dict[str, object], ...] = honest(self)
        return (*charges, *[charge for charge in charges if charge["status"] == "succeeded"][:1])

    monkeypatch.setattr(Sandbox, "charges", property(doubled))
    run = shell.paycli("demo", "--intents", "12", "--seed", "3", "--keep")
    assert run.code == 1
    assert run.out.splitlines()[-1].startswith("WRONG")
    kept = Path(run.err.split("sqlite:///")[1].split()[0])
    assert kept.exists()
    for file in kept.parent.iterdir():
        file.unlink()
    kept.parent.rmdir()
