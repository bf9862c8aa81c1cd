"""Mistakes about doubt, the next attempt and giving up."""

from tests.mutants.mutant import Mutant

CHARGING = "gateway_client/flow/charging.py"
CLEARING = "gateway_client/flow/clearing.py"
CLAIM = "gateway_client/store/claim.py"
GATE = "gateway_client/store/gate.py"
SETTLE = "gateway_client/store/settle.py"
ROWS = "gateway_client/store/rows.py"
STATE = "gateway_client/state.py"

MUTANTS = (
    Mutant(
        "no other send is ever in doubt",
        SETTLE,
        "in_doubt=record.in_doubt(effect.send_no)",
        "in_doubt=False",
    ),
    Mutant(
        "lease trusted: another's open send counts as over",
        ROWS,
        'return any(send["ended_at"] is None or send["outcome"] in IN_DOUBT for send in others)',
        'return any(send["outcome"] in IN_DOUBT for send in others)',
        incident="bslatkin/dpxdt #46: a worker that had lost its lease reported over another one's work",
        seeds_max=20_000,
    ),
    Mutant(
        "a send that was never answered is not in doubt",
        "gateway_client/outcome.py",
        "IN_DOUBT: frozenset[str] = frozenset({NAMES[Unknown], NAMES[InFlight], NAMES[Conflict]})",
        "IN_DOUBT: frozenset[str] = frozenset({NAMES[InFlight], NAMES[Conflict]})",
    ),
    Mutant(
        "a send that did not leave clears the doubt of another",
        STATE,
        "return Event.UNCLEAR if in_doubt else Event.NOT_EXECUTED",
        "return Event.NOT_EXECUTED",
    ),
    Mutant(
        "the next attempt while this one is unknown",
        CLAIM,
        "if not previous.state.final:",
        "if False:",
        incident="woocommerce/woocommerce-gateway-stripe #3725: a retry after a timeout charged beside the first",
    ),
    Mutant(
        "the next attempt beside an open intent",
        CHARGING,
        "yield from clear(setup, binding, earlier)",
        "pass",
        incident="tzConnectBerlin/kanvas #197: a failed intent was final here, and could still succeed at Stripe",
    ),
    Mutant(
        "any answer to a cancellation will do",
        CLEARING,
        "if not isinstance(answer.outcome, Canceled):",
        "if False:",
    ),
    Mutant(
        "an intent whose id never reached us is not looked for",
        CLEARING,
        "charge = yield from _look_again(setup, binding, charge)",
        "pass",
    ),
    Mutant(
        "only an intent whose id is known is cleared",
        CLAIM,
        "return previous.state in (State.DECLINED, State.ABSENT) or (known and previous.state is not State.CANCELED)",
        "return known and previous.state is not State.CANCELED",
    ),
    Mutant(
        "a list that could not be read clears the way",
        CLEARING,
        "if answer is None and scan.why_incomplete is None:",
        "if answer is None:",
    ),
    Mutant(
        "the next attempt at once after an absence",
        CLAIM,
        "_refuse_too_early(previous.charge(), effect.profile, now)",
        "pass",
        seeds_max=20_000,
    ),
    Mutant(
        "given up is ended, whatever was sent",
        SETTLE,
        "if record.state is State.PREPARED:",
        "if record.state in (State.PREPARED, State.SENDING, State.UNKNOWN):",
        incident="woocommerce/woocommerce-gateway-stripe #5759: orders that looked unpaid were cancelled, and paid",
    ),
    Mutant(
        "to ask for a cancellation is to be cancelled",
        CLEARING,
        "answer = yield from _cancel_there(setup, binding, charge)\n    return",
        "answer = yield from _cancel_there(setup, binding, charge)\n"
        "    answer = replace(answer, outcome=Canceled(because))\n    return",
    ),
    Mutant(
        "a saved 500 is asked for again and again",
        "gateway_client/gateways/stripe_api.py",
        "server_errors_max=2,",
        "server_errors_max=1000,",
    ),
    Mutant(
        "what waited for a day is sent",
        "gateway_client/flow/resuming.py",
        "if now - charge.created_at >= setup.gateway.profile.unsent_life:",
        "if False:",
    ),
)
