"""Mistakes about doubt, the next attempt and giving up."""

from tests.mutants.mutant import Mutant

CHARGING = "gateway_client/flow/charging.py"
CLEARING = "gateway_client/flow/clearing.py"
CLAIM = "gateway_client/store/claim.py"
GATE = "gateway_client/store/gate.py"
SETTLE = "gateway_client/store/settle.py"
ROWS = "gateway_client/store/rows.py"
FACTS = "gateway_client/store/facts.py"
RECORD = "gateway_client/record.py"
STATE = "gateway_client/state.py"

EVIDENCE = "gateway_client/evidence.py"

_CANCEL = "if why_not(Step.CANCEL, Known(record.charge(), effect.profile.bounds, tx.now)) is None:"

MUTANTS = (
    Mutant(
        "the guard of an outcome left out: it is judged by the row as it was when its send was begun",
        ROWS,
        "tx.write_found(_UPDATE_UNCHANGED, _key(before.row) | after.changed(before) | seen)",
        "tx.write_found(_UPDATE, _key(before.row) | after.changed(before))",
        kept="a send that never left, recorded late",
    ),
    Mutant(
        "a send that is begun beside another one is no new revision of the row",
        GATE,
        "written = write(tx, record, after)",
        "written = write(tx, record, after) if after.changed(record) else after",
        kept="a send that never left, recorded late",
    ),
    Mutant(
        "no other send is ever in doubt",
        SETTLE,
        "in_doubt=record.in_doubt(effect.send_no)",
        "in_doubt=False",
    ),
    Mutant(
        "lease trusted: another's open send counts as over",
        RECORD,
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
        "return Event.UNCLEAR if left or in_doubt else Event.NOT_EXECUTED",
        "return Event.NOT_EXECUTED",
    ),
    Mutant(
        "the next attempt while this one is unknown",
        CLAIM,
        "if previous.state.pending:",
        "if False:",
        incident="woocommerce/woocommerce-gateway-stripe #3725: a retry after a timeout charged beside the first",
    ),
    Mutant(
        "the next attempt beside an open intent",
        CHARGING,
        "for charge in (*claimed.before, earlier):\n            yield from clear(setup, binding, charge)",
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
        "what carries our key is cancelled, whatever it is",
        CLEARING,
        "if isinstance(answer.outcome, Conflict):",
        "if False:",
        kept="our names and our key on a stranger's payment",
    ),
    Mutant(
        "only an intent whose id is known is cleared",
        CLAIM,
        "if (before or why_not(Step.NEXT_ATTEMPT, known) is not None) and effect.cleared_attempt != newest:",
        "if known.charge.provider_intent_id is not None and effect.cleared_attempt != newest:",
    ),
    Mutant(
        "a list that could not be read clears the way",
        CLEARING,
        '    if problem is not None:\n        raise ProviderUnavailable(f"{attempt} is {charge.state}, and',
        "    if problem is not None and scan.why_incomplete is None:\n"
        '        raise ProviderUnavailable(f"{attempt} is {charge.state}, and',
        kept="the lists cannot be asked",
    ),
    Mutant(
        "given up is ended, whatever was sent",
        SETTLE,
        _CANCEL,
        "if record.state in (State.PREPARED, State.SENDING, State.UNKNOWN):",
        incident="woocommerce/woocommerce-gateway-stripe #5759: orders that looked unpaid were cancelled, and paid",
    ),
    Mutant(
        "to ask for a cancellation is to be cancelled",
        CLEARING,
        "answer = yield from _cancelled(setup, binding, charge)\n    return",
        "answer = yield from _cancelled(setup, binding, charge)\n"
        "    answer = replace(answer, outcome=Canceled(because))\n    return",
    ),
    Mutant(
        "what was left uncharged is cancelled while a 500 may charge it",
        EVIDENCE,
        "at = charge.quiet_from + known.bounds.quiet_unproven",
        "at = charge.quiet_from + known.bounds.quiet",
        kept="A9",
    ),
    Mutant(
        "what is too late is sent all the same",
        "gateway_client/store/gate.py",
        "if last is None or max(now, clock) <= last or",
        "if True or",
        kept="A6",
        also=(EVIDENCE, "if last is not None and known.now > last:", "if False:"),
    ),
    Mutant(
        "what was left uncharged waits for ever",
        CLEARING,
        "if not isinstance(answer.outcome, Unknown) or not answer.outcome.uncharged:",
        "if True:",
        kept="A9",
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
        "if now - charge.created_at >= life:",
        "if False:",
    ),
    Mutant(
        "the next attempt at once after a rejection",
        EVIDENCE,
        'and a complete reading that shows nothing: at once",\n        _shows_nothing,',
        'and a complete reading that shows nothing: at once",\n        _cancelled,',
    ),
    Mutant(
        "what was refused in so many words is canceled at once",
        SETTLE,
        _CANCEL,
        'if all(send["outcome"] in ("refused", "not_executed") for send in record.sends):',
        kept="P2: delivered twice",
    ),
    Mutant(
        "answered is whatever had a status",
        RECORD,
        'unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left)',
        'unproven=any(send["status"] is None for send in left)',
        kept="P4",
    ),
    Mutant(
        "the roll-forward of a 500 that nobody saw is not waited for",
        "gateway_client/bounds.py",
        "return self.quiet + self.roll_forward",
        "return self.quiet",
        kept="P10",
    ),
    Mutant(
        "a closed finding about money lets the next attempt through",
        FACTS,
        'and_(_OWN, findings.c.charged, findings.c.attempt != bindparam("for_attempt")),',
        'and_(_OWN, findings.c.charged, findings.c.attempt == bindparam("for_attempt")),',
        kept="P7",
    ),
    Mutant(
        "findings stop nothing",
        FACTS,
        "    if finding is None:\n        return None\n",
        "    return None\n",
        kept="P7",
    ),
    Mutant(
        "the answer to a cancellation is believed",
        CLEARING,
        "yield from Ask(gateway.cancel_request(intent))",
        "said = yield from Ask(gateway.cancel_request(intent))\n"
        '        if getattr(said, "status", 0) == 200:\n'
        '            return Answer(Canceled("it said so", intent))',
    ),
)
