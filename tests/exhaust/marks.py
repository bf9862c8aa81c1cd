"""Where a flow stands: flows with the same mark do the same from now on, whatever they are told.

A flow is a chain of generators. Its mark is, of each of them, the instruction at which it is suspended, the local
variables that may still be read from there, and how far its loops are; and the effect that it asks for. What is not
read any more, such as the answer to a send that was repeated, makes no difference, and so no other state.
"""

from __future__ import annotations

import dis
import gc
from collections.abc import Generator, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from enum import Enum
from functools import cache, partial
from itertools import count
from types import CodeType, FunctionType, MethodType
from typing import Any

from gateway_client.flow import Setup
from gateway_client.flow.breaker import Breaker
from gateway_client.flow.effects import Begun, Effect
from gateway_client.flow.lookup import Cycle
from gateway_client.gateways.base import Binding, Listing, Profile
from gateway_client.gateways.stripe import Stripe
from gateway_client.record import Record
from gateway_client.retry import RetryPolicy
from reconcile.throttle import Bucket
from tests.exhaust.blind import FOR_PEOPLE, UNSEEN, Unseen

PLAIN = (type(None), str, bytes, int, float, range, date, timedelta)
CONSTANT = (Setup, Stripe, Profile, RetryPolicy, Binding, Bucket)
"""There is one of each; a bucket is never empty here."""

ENDS = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"}
JUMPS = {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"}


def mark(flow: object) -> str:
    """Where a suspended flow stands."""
    found: list[object] = []
    while isinstance(flow, Generator):
        frame, code = flow.gi_frame, flow.gi_code  # type: ignore[attr-defined]
        values = frame.f_locals
        living = [(name, value_of(values[name])) for name in _living(code)[frame.f_lasti] if name in values]
        loops = [value_of(one) for one in gc.get_referents(flow) if _is_loop(one)]
        found.append((code.co_qualname, frame.f_lasti, living, loops))
        if isinstance(values.get("self"), Effect):
            found.append(value_of(values["self"]))
        flow = flow.gi_yieldfrom  # type: ignore[attr-defined]
    return repr(found)


def value_of(value: Any) -> object:  # noqa: PLR0911 - one kind of value a line
    """What tells a value from others. Raises TypeError for a kind that is not known here."""
    match value:
        case Begun():
            return ("Begun", value_of(value.charge), value.send_no, value_of(value.record))
        case Record():
            # What an outcome is judged by, as against what is written for people.
            rows = (("pending_charges", value.row), *(("paycli_sends", send) for send in value.sends))
            return ("Record", [value_of({k: v for k, v in row.items() if k not in FOR_PEOPLE[of]}) for of, row in rows])
        case Enum() | Unseen():
            return type(value).__name__ if value is UNSEEN else str(value)
        case _ if isinstance(value, PLAIN):
            return value
        case _ if isinstance(value, CONSTANT):
            return type(value).__name__
        case tuple() | list():
            return [value_of(one) for one in value]
        case Mapping():
            return [(value_of(name), value_of(one)) for name, one in value.items()]
        case Listing():
            objects = [value_of(value.in_our_words(place)) for place in range(value.count)]
            return ["Listing", objects, value_of(value.plain), value.last_id, value.has_more]
        case set() | frozenset():
            return sorted(repr(value_of(one)) for one in value)
        case Exception():
            return (type(value).__name__, str(value))
        case partial():
            return ("partial", value_of(value.func), value_of(value.args), value_of(value.keywords))
        case MethodType():
            return (value.__qualname__, value_of(value.__self__))
        case FunctionType():
            return (value.__qualname__, [value_of(cell.cell_contents) for cell in value.__closure__ or ()])
        case Generator():
            return mark(value)
        case Cycle() | Breaker():
            return (type(value).__name__, value_of(vars(value)))
        case _ if is_dataclass(value):
            return (type(value).__qualname__, [value_of(getattr(value, field.name)) for field in fields(value)])
        case _ if _is_loop(value):
            return repr(value) if isinstance(value, count) else value_of(value.__reduce__()[1:])
    raise TypeError(f"what tells one {type(value).__name__} from another?")


def _is_loop(value: object) -> bool:
    return isinstance(value, Iterator) and not isinstance(value, Generator)


@cache
def _living(code: CodeType) -> dict[int, tuple[str, ...]]:
    """By instruction: the local variables that may be read after it, before they are written."""
    steps = list(dis.get_instructions(code))
    places = {step.offset: at for at, step in enumerate(steps)}
    shared = frozenset(code.co_cellvars) | frozenset(code.co_freevars)  # a function inside may read them at any time
    after = [_after(steps, at, places) for at in range(len(steps))]
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]
        for at, step in enumerate(steps):
            if entry.start <= step.offset < entry.end:
                after[at].append(places[entry.target])
    alive: list[frozenset[str]] = [shared] * len(steps)  # before each instruction
    behind = list(alive)
    changed = True
    while changed:
        changed = False
        for at in reversed(range(len(steps))):
            behind[at] = shared.union(*(alive[to] for to in after[at]))
            read, written = _touched(steps[at])
            now = (behind[at] - written) | read
            if now != alive[at]:
                alive[at], changed = now, True
    return {step.offset: tuple(sorted(behind[at])) for at, step in enumerate(steps)}


def _after(steps: list[dis.Instruction], at: int, places: dict[int, int]) -> list[int]:
    step = steps[at]
    found = [] if step.opname in ENDS | JUMPS or at + 1 == len(steps) else [at + 1]
    if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
        found.append(places[step.argval])
    return found


def _touched(step: dis.Instruction) -> tuple[frozenset[str], frozenset[str]]:
    """The local variables that an instruction reads, and those that it writes without having read them."""
    if "_FAST" not in step.opname:
        return frozenset(), frozenset()
    names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
    kinds = [part for part in step.opname.split("_") if part in ("LOAD", "STORE", "DELETE")]
    read: set[str] = set()
    written: set[str] = set()
    for name, kind in zip(names, kinds, strict=True):
        if kind != "LOAD":
            written.add(name)
        elif name not in written:
            read.add(name)
    return frozenset(read), frozenset(written)
