"""A flow inside a flow: what is done around each of its effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import Effect, Flow, T


def wrapped(flow: Flow[T], perform: Callable[[Effect[Any]], Flow[Any]]) -> Flow[T]:
    """Do what a flow does, each of its effects by `perform`; an error of one is raised in the flow."""
    step: Callable[[Any], Effect[Any]] = flow.send
    result: Any = None
    while True:
        try:
            effect = step(result)
        except StopIteration as end:
            return cast("T", end.value)
        try:
            result, step = (yield from perform(effect)), flow.send
        except ChargeOnceError as error:
            result, step = error, flow.throw
