"""The demo and its audit: the run is real, and a wrong ledger, planted, is seen to fail."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli import demo_load, demo_planted, demo_report
from cli.audit import compare
from cli.demo_clock import noon_of_fifth_day
from cli.demo_orders import Orders
from cli.demo_planted import EXPECTED, PLANTED, TROUBLES, NightFigures, OrderFigures
from gateway_client import Charge, Sandbox, State, Stripe
from gateway_client.bounds import Bounds
from gateway_client.finding import Action, Code, Finding
from gateway_client.sandbox.behaviour import Behaviour
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
                     reason=None, unproven=number >= 6)  # fmt: skip
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
    demo_report.verdict(EXPECTED, figures, figures, night())
    assert capsys.readouterr().out.strip().startswith("WRONG, the ledgers do not agree")


def night(lost: tuple[str, str] | None = None, **changes: Any) -> NightFigures:
    """A night that found what was planted, but one thing; `changes` of its two runs."""
    found = tuple(
        Finding(
            *(f"id_{code}", Code(code), intent, 1, None, Action(action), "here", "there", "detail", False, THEN),
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
    demo_report.verdict(EXPECTED, figures, figures, night(lost))
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines() if lost[1] in line] == ["FOUND"]
    assert out.splitlines()[-1].startswith("WRONG, the night did not find what was planted")


@pytest.mark.parametrize("wrong", [{"complete": False}, {"news": 1}, {"repaired": 1}, {"alerts": 0}])
def test_a_night_that_went_wrong(wrong: dict[str, Any]) -> None:
    """An incomplete run, a second run that changed something, and a night without an alert are wrong as well."""
    assert not night(**wrong).right


def test_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line counts the charges after each of the three troubles, and says that the ledgers agree."""
    figures = compare(ASKED, *ledgers())
    demo_report.verdict(EXPECTED, figures, figures, night())
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("The ledgers agree: charged once 5 of 5")
    assert "charges after a middlebox 1, a doubled delivery 1, a paused machine 1;" in line


@pytest.mark.parametrize("order", EXPECTED, ids=lambda order: TROUBLES[order.intent_id])
@pytest.mark.parametrize("wrong", [{"told": ("not_executed",)}, {"requests": 9}, {"charges": 0}, {"charges": 2}])
def test_an_order_that_went_otherwise(
    order: OrderFigures, wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another word to the caller, one request or one charge more make the demo wrong, and the order is named."""
    figures, other = compare(ASKED, *ledgers()), replace(order, **wrong)
    assert order.right
    assert not other.right
    orders = [other if one is order else one for one in EXPECTED]
    demo_report.verdict(orders, figures, figures, night())
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"WRONG, {order.intent_id} went otherwise than it must; The ledgers agree")
    assert f"{TROUBLES[order.intent_id]} {other.charges}" in line


def three_orders(folder: Path) -> tuple[list[OrderFigures], dict[str, int]]:
    """The demo's first part alone: its own figures, and how often the provider charged each order."""
    sandbox = Sandbox()
    with sandbox.serve() as server:
        gateway = Stripe(sandbox.api_key, api_base=server.url)
        return Orders(sandbox, gateway, f"sqlite:///{folder / 'demo.db'}").tell(), dict(sandbox.succeeded())


def test_three_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a middlebox, a doubled delivery and a paused machine each caller is told `unknown`, and charged once."""
    figures, charged = three_orders(tmp_path)
    assert tuple(figures) == EXPECTED
    assert charged == dict.fromkeys(TROUBLES, 1)
    told = capsys.readouterr()
    assert re.findall(r"told: (\w+), (.*)", told.err) == [
        ("unknown", "HTTP 403 without a Stripe error in it"),
        ("unknown", "the provider is limiting our rate (HTTP 429); nothing ties that to this send"),
        ("unknown", "the connection broke (ConnectionResetError)"),
    ]
    here = re.findall(r"succeeded, (ch_\w+)", told.err)
    assert re.findall(r"the provider's ledger: \S+ USD (ch_\w+); requests [231], charges 1\n", told.err) == here
    assert len(here) == 3
    assert "called again: ClockRefused, this machine's clock is 10" in told.err
    assert re.search(r"since the pause: sent again 0, pages of the provider's lists read [1-9]", told.err)
    assert [line.split()[-1] for line in told.out.splitlines() if "order_" in line] == ["1", "1", "1"]


@pytest.mark.parametrize(
    ("owner", "name", "value", "doubled"),
    [
        (Behaviour, "key_life_s", 0.0, ["order_filtered", "order_doubled"]),  # the provider forgets every key at once
        (Bounds, "key_life", timedelta(hours=48), ["order_paused"]),  # and this client believes that it does not
    ],
)
def test_three_orders_see_a_double_charge(
    owner: type, name: str, value: object, doubled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that is charged twice, by a provider without keys or a client that trusts a dead one, is wrong."""
    monkeypatch.setattr(owner, name, value)
    figures, charged = three_orders(tmp_path)
    assert [one.intent_id for one in figures if not one.right] == doubled
    assert {one.intent_id: one.charges for one in figures} == charged
    assert sorted(intent for intent, times in charged.items() if times > 1) == sorted(doubled)


@pytest.mark.parametrize("minute", [0, 12 * 60, 24 * 60 - 1])
def test_the_night_begins_when_everything_is_provable(minute: int) -> None:
    """The noon of the fifth day is later than whatever the provider may still show, from any minute of the day."""
    today = THEN + timedelta(minutes=minute)
    bounds = Stripe.profile.bounds
    assert noon_of_fifth_day(today).hour == 12
    assert noon_of_fifth_day(today) - today > timedelta(days=1) + bounds.quiet_unproven


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with world(tmp_path_factory.mktemp("demo")) as made:
        yield made


def test_demo_runs(shell: World) -> None:
    """The demo charges, kills a process in mid-charge, resumes, and ends with ledgers that agree; a seed replays it."""
    first = shell.paycli("demo", "--intents", "12", "--seed", "5")
    assert (first.code, first.out.splitlines()[-1].partition(":")[0]) == (0, "The ledgers agree")
    assert re.search(r"Killed \(exit status -9\) while [12] of its requests were being carried out", first.err)
    assert [name for name in TROUBLES if f"{name}: " in first.err] == [*TROUBLES]
    assert re.search(r"sent again 0, closed [1-9]", first.err)
    assert re.search(r"still unknown [1-9]\d*, 0 five days later", first.out.splitlines()[-1])
    assert first.out == shell.paycli("demo", "--intents", "12", "--seed", "5").out


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


def test_demo_sees_an_order_that_went_otherwise(shell: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one of the three orders comes to anything else than it must, the demo is exit 1 though the ledgers agree."""
    expected = (*EXPECTED[:2], replace(EXPECTED[2], requests=2))
    monkeypatch.setattr(demo_planted, "EXPECTED", expected)
    run = shell.paycli("demo", "--intents", "12", "--seed", "3")
    assert run.code == 1
    assert run.out.splitlines()[-1].startswith("WRONG, order_paused went otherwise than it must; The ledgers agree")
