"""Acting upon a charge: the same story as of a charge, with a claim of its own. No I/O."""

from __future__ import annotations

from functools import partial

from gateway_client.charge import Charge
from gateway_client.flow.asking import Setup, bind_flow
from gateway_client.flow.charging import draft_of, to_its_end
from gateway_client.flow.effects import Begun, ClaimUpon, Draft, Flow
from gateway_client.frozen import Frozen
from gateway_client.gateways.base import Binding, offered
from gateway_client.operation import Upon


def act_flow(setup: Setup, operation: str, upon: Upon, attempt: int | None = None) -> Flow[Charge]:
    """Act upon a charge once: the snapshot of the attempt, whatever became of it. Raises NotOffered, NotPossible."""
    gateway = setup.gateway
    offered(gateway, operation)
    binding = yield from bind_flow(setup)
    draft = partial(_draft, setup, binding, operation, upon)
    claimed = yield from ClaimUpon(
        operation, upon, attempt, draft, gateway.profile, binding, begin_with=gateway.credential_id
    )
    begun = claimed if isinstance(claimed, Begun) else None
    return (yield from to_its_end(setup, binding, claimed.charge if isinstance(claimed, Begun) else claimed, begun))


def _draft(setup: Setup, binding: Binding, operation: str, upon: Upon, attempt: int, parent: Charge) -> Draft:
    body = offered(setup.gateway, operation).body
    assert body is not None, f"{operation} has no body"
    key = binding.key(operation, upon.intent_id, attempt)
    frozen = Frozen(
        upon.intent_id,
        attempt,
        key,
        upon.amount.amount,
        upon.amount.currency,
        None,
        "",
        body(upon, parent, key),
        setup.gateway.api_version,
        operation,
        upon.parent_id,
    )
    return draft_of(setup, frozen)
