"""States against the table of DESIGN §6: what each outcome does, in doubt and not, in the table and in the store."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_client import State, Stripe
from gateway_client.flow.effects import BeginSend, Begun, Settle
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.outcome import (
    NAMES,
    Answer,
    Canceled,
    Cause,
    Conflict,
    Declined,
    InFlight,
    NotExecuted,
    Outcome,
    Processing,
    Refused,
    Rejected,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.state import CHARGE, LAWS, MEANING, PENDING, TRANSITIONS, Event, contradicts, diagram, event_of
from tests.kit import ORDER, World

ROOT = Path(__file__).resolve().parent.parent
FINAL = {State.SUCCEEDED, State.DECLINED, State.REJECTED, State.CANCELED, State.ABSENT}

# DESIGN §6, by hand: the outcome; the state when no other send has left, when each that has was answered, and when one
# is in doubt (the gateway saves declines).
CELLS: list[tuple[Outcome, State, State, State]] = [
    (Succeeded("pi_1", "ch_1"), State.SUCCEEDED, State.SUCCEEDED, State.SUCCEEDED),
    (Processing("later", "pi_1", "ch_1"), State.PROCESSING, State.PROCESSING, State.PROCESSING),
    (RequiresAction("bank", "pi_1"), State.REQUIRES_ACTION, State.REQUIRES_ACTION, State.REQUIRES_ACTION),
    (Canceled("cancelled", "pi_1"), State.CANCELED, State.CANCELED, State.CANCELED),
    (Declined("card_declined", "pi_1", "ch_1"), State.DECLINED, State.DECLINED, State.DECLINED),
    (Rejected("parameter_missing"), State.REJECTED, State.REJECTED, State.UNKNOWN),
    (NotExecuted(Cause.NOT_SENT, "refused"), State.PREPARED, State.UNKNOWN, State.UNKNOWN),
    (NotExecuted(Cause.PAUSED, "paused"), State.PREPARED, State.UNKNOWN, State.UNKNOWN),
    (Refused(Cause.RATE_LIMITED, "429"), State.UNKNOWN, State.UNKNOWN, State.UNKNOWN),
    (Refused(Cause.CREDENTIAL, "401"), State.UNKNOWN, State.UNKNOWN, State.UNKNOWN),
    (Refused(Cause.ACCOUNT, "400"), State.UNKNOWN, State.UNKNOWN, State.UNKNOWN),
    (InFlight("409"), State.UNKNOWN, State.UNKNOWN, State.UNKNOWN),
    (Unknown("timeout"), State.UNKNOWN, State.UNKNOWN, State.UNKNOWN),
    (Unknown("401", told=True, cause=Cause.CREDENTIAL), State.UNKNOWN, State.UNKNOWN, State.UNKNOWN),
    (Conflict("other amount", "pi_9", "ch_9"), State.CONFLICT, State.CONFLICT, State.CONFLICT),
]
NAMED = [f"{NAMES[type(cell[0])]}-{at}" for at, cell in enumerate(CELLS)]


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.mark.parametrize(("outcome", "alone", "beside", "doubted"), CELLS, ids=NAMED)
def test_outcome_by_doubt(outcome: Outcome, alone: State, beside: State, doubted: State) -> None:
    """Each outcome leads where DESIGN §6 says, from every state in which its send can end."""

    def after(state: State, *, left: bool, in_doubt: bool) -> State:
        return LAWS[CHARGE].next(state, event_of(outcome, in_doubt=in_doubt, left=left, saves_declines=True))

    assert alone == after(State.SENDING, left=False, in_doubt=False)
    for state in (State.SENDING, State.UNKNOWN):
        assert beside == after(state, left=True, in_doubt=False)
        assert doubted == after(state, left=True, in_doubt=True)


def test_only_our_own_socket_prepares_again() -> None:
    """No answer leads back to `prepared`, which a person may cancel at once: a fact of our own socket does."""
    back = {
        (type(outcome), left)
        for outcome, *_ in CELLS
        for left in (False, True)
        if event_of(outcome, in_doubt=False, left=left, saves_declines=True) is Event.NOT_EXECUTED
    }
    assert back == {(NotExecuted, False)}
    assert {event for exits in TRANSITIONS.values() for event, to in exits.items() if to is State.PREPARED} == {
        Event.NOT_EXECUTED
    }


@pytest.mark.parametrize("left", [True, False])
def test_decline_of_a_gateway_that_does_not_save_it(*, left: bool) -> None:
    """Where declines are not saved, another send may still be executed: in doubt a decline proves nothing."""
    decline = Declined("card_declined")
    assert event_of(decline, in_doubt=False, left=left, saves_declines=False) == Event.DECLINED
    assert event_of(decline, in_doubt=True, left=True, saves_declines=False) == Event.UNCLEAR


@pytest.mark.parametrize("doubt", ["none", "not_executed", "refused", "open", "unknown", "in_flight", "conflict"])
def test_outcome_by_doubt_in_the_store(world: World, doubt: str) -> None:
    """The row goes where DESIGN §6 says, when another send is open, ended without proof, was refused or never left."""
    client = world.open_client()
    credential = Stripe(world.sandbox.api_key).credential_id
    ended: dict[str, Outcome] = {
        "unknown": Unknown("timeout"),
        "in_flight": InFlight("409"),
        "conflict": Conflict("other amount"),
        "not_executed": NotExecuted(Cause.NOT_SENT, "refused"),
        "refused": Refused(Cause.RATE_LIMITED, "429"),
    }

    def begin(name: str) -> int:
        begun = world.perform(BeginSend(name, 1, world.binding, PROFILE, credential, world.altered, time_asked=True))
        assert isinstance(begun, Begun)
        return begun.send_no

    def settle(name: str, outcome: Outcome, send_no: int) -> State:
        return world.perform(Settle(name, 1, Answer(outcome), saves_declines=True, send_no=send_no)).state

    expected, actual, again = {}, {}, {}
    for name, (outcome, alone, beside, doubted) in zip(NAMED, CELLS, strict=True):
        client.prepare(replace(ORDER, intent_id=name))
        other = None if doubt == "none" else begin(name)
        ours = begin(name)
        if other is not None and doubt in ended:
            settle(name, ended[doubt], other)
        # A conflict leaves by evidence only: what proves nothing leaves it as it is.
        unproven = State.CONFLICT if doubt == "conflict" and doubted is State.UNKNOWN else doubted
        expected[name] = {"none": alone, "not_executed": alone, "refused": beside}.get(doubt, unproven)
        actual[name] = settle(name, outcome, ours)
        again[name] = settle(name, outcome, ours)
    assert expected == actual
    assert actual == again, "the same outcome again changes nothing"
    assert actual == {name: world.state(name) for name in NAMED}


def test_final_states_have_no_exit() -> None:
    """Five states are final: nothing leaves them, and nothing else is final."""
    assert {state for state in State if TRANSITIONS[state] == {}} == FINAL
    assert {state for state in State if not state.pending} == FINAL
    assert set(PENDING) == set(State) - FINAL
    assert {state for state in State if state.refused} == FINAL - {State.SUCCEEDED}


def test_every_state_is_told() -> None:
    """Every state has its row in the table and its meaning in words."""
    assert set(TRANSITIONS) == set(State) == set(MEANING)


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("cell", CELLS, ids=NAMED)
def test_evidence_against_a_final_state(state: State, cell: tuple[Outcome, State, State, State]) -> None:
    """Money moved, or about to, after a refusal is a contradiction; so is a refusal after a success."""
    outcome = cell[0]
    if state is State.SUCCEEDED:
        expected = isinstance(outcome, Declined | Canceled | Conflict)
    elif state is State.ABSENT:  # never executed, it was proven; `rejected` is what one delivery was told
        expected = isinstance(outcome, Succeeded | Processing | RequiresAction | Declined | Conflict)
    else:
        expected = isinstance(outcome, Succeeded | Processing | Conflict)
    assert contradicts(state, outcome) == expected


def test_settled_states_reach_every_outcome() -> None:
    """Whatever pending state a row is in, each outcome of a late answer has a place to go: nothing crashes a settle."""
    late = {Event.NOT_EXECUTED, Event.UNCLEAR, Event.CONFLICT, Event.SUCCEEDED, Event.DECLINED, Event.CANCELED}
    late |= {Event.PROCESSING, Event.REQUIRES_ACTION, Event.REJECTED}
    for state in PENDING:
        assert late <= set(TRANSITIONS[state]), state
    # A `prepared` row has no send that could be rejected, unless the store went back under it: then nothing is known.
    assert TRANSITIONS[State.PREPARED][Event.REJECTED] is State.UNKNOWN


def test_sending_begins_only_where_it_may() -> None:
    """BeginSend moves only `prepared`, and only to `sending`; absence is proven only of what may have been sent."""
    begins = {state: exits[Event.SEND_BEGUN] for state, exits in TRANSITIONS.items() if Event.SEND_BEGUN in exits}
    assert begins == {
        State.PREPARED: State.SENDING,
        State.SENDING: State.SENDING,
        State.UNKNOWN: State.UNKNOWN,
    }
    absents = {state for state, exits in TRANSITIONS.items() if State.ABSENT in exits.values()}
    assert absents == {State.SENDING, State.UNKNOWN, State.CONFLICT}


def test_diagram_lists_every_edge() -> None:
    """The diagram has each edge of the table, under its state or under what holds for all pending ones."""
    sections: dict[str, set[tuple[str, str]]] = {}
    name = ""
    for line in diagram().splitlines():
        if "→" in line:
            event, to = line.lstrip(" ├└─").split("→")
            sections[name].add((event.strip(), to.strip()))
        elif line.strip():
            name = line.split()[0].rstrip(":,")
            sections.setdefault(name, set())
    shared = sections["from"]
    for state in State:
        edges = {(str(event), str(to)) for event, to in TRANSITIONS[state].items() if to is not state}
        shown = sections[state] | (shared if state.pending else set())
        assert edges - shown == set(), state
        # What holds for all may lead back to the state itself; nothing else may be shown too much.
        assert {edge for edge in shown - edges if edge[1] != state} == set(), state


def _writes_state(node: ast.AST) -> bool:
    """An argument `state=…`, `x.state = …`, `x["state"] = …`, or SQL in words."""
    if isinstance(node, ast.keyword):
        return node.arg == "state"
    if isinstance(node, ast.Attribute):
        return node.attr == "state" and isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.Subscript):
        written = isinstance(node.ctx, ast.Store) and isinstance(node.slice, ast.Constant)
        return written and isinstance(node.slice, ast.Constant) and node.slice.value == "state"
    if isinstance(node, ast.Constant):  # textual SQL
        return isinstance(node.value, str) and "set state" in node.value.lower()
    return False


def test_nothing_else_assigns_a_state() -> None:
    """A state is written where a row is born (`prepared`) and where an event moves it (record.py), nowhere else."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "gateway_client").rglob("*.py")):
        name = str(path.relative_to(ROOT / "gateway_client"))
        if name.startswith("sandbox/"):  # the provider's own, not a charge's
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                named = {ast.unparse(key): value for key, value in zip(node.keys, node.values, strict=True) if key}
                found.setdefault(name, []).extend(ast.unparse(named[key]) for key in named if key == "'state'")
            elif _writes_state(node):
                found.setdefault(name, []).append(ast.unparse(node))
    assert {name: sorted(written) for name, written in found.items() if written} == {
        "charge.py": ["self.state.value"],  # the JSON of a snapshot
        "record.py": ["state", "state=self.state"],  # `moved`, and a snapshot of a row
        "store/attempts.py": ["State.PREPARED"],  # the birth of a row
    }
    record = ast.parse((ROOT / "gateway_client/record.py").read_text(encoding="utf-8"))
    moves = next(node for node in ast.walk(record) if isinstance(node, ast.FunctionDef) and node.name == "moved")
    assert "state = self.state if event is None else self.law.next(self.state, event)" in ast.unparse(moves)
