"""Mistakes about what is written down, and what is done with what is pending."""

from tests.mutants.mutant import Mutant

SETTLE = "gateway_client/store/settle.py"
STATE = "gateway_client/state.py"
RESUMING = "gateway_client/flow/resuming.py"
READING = "gateway_client/store/reading.py"

MUTANTS = (
    Mutant(
        "unlocked repair: a row that has ended is called absent",
        SETTLE,
        "if not record.law.allows(record.state, Event.PROVEN_ABSENT):",
        "if False:",
        also=(
            "gateway_client/evidence.py",
            "(State.SENDING, State.UNKNOWN, State.CONFLICT),",
            "tuple(State),",
        ),
    ),
    Mutant(
        "a late answer moves a row that has ended",
        SETTLE,
        "    if not record.state.pending and not record.law.allows(record.state, _judge(record, effect)[0]):\n",
        "    if not record.state.pending and effect.send_no is None:\n",
        incident="thewca/worldcubeassociation.org #9240: two writers of one payment, until the row was locked",
    ),
    Mutant(
        "a success after a refusal is not told",
        STATE,
        "return state.refused and isinstance(outcome, Succeeded | Processing | Conflict)",
        "return False",
    ),
    Mutant(
        "a success is written down without its charge",
        SETTLE,
        "changes |= _provider_ids(record.row, outcome)",
        "pass",
    ),
    Mutant(
        "the ids of an answer that is not ours are kept",
        SETTLE,
        "if not isinstance(outcome, Conflict):  # the ids in such an answer belong to something else",
        "if True:",
    ),
    Mutant(
        "a poisoned row stops the others",
        RESUMING,
        "except NeedsPerson as error:\n        return Finished(replace(charge, reason=str(error)))",
        "except ZeroDivisionError as error:\n        return Finished(replace(charge, reason=str(error)))",
        incident="bcgov/entity #34429: one account that was not ready, and the day's payments were not reconciled",
    ),
    Mutant(
        "resume never gets beyond the first page",
        RESUMING,
        "cursor = page[-1].place",
        "cursor = None",
    ),
    Mutant(
        "resume looks only at what may be sent",
        READING,
        "query = select(charges).where(charges.c.state.in_(constant(PENDING))).order_by(*order).limit("
        'bindparam("rows_max"))',
        'query = select(charges).where(charges.c.state.in_(constant(("prepared", "sending", "unknown")))).order_by('
        '*order).limit(bindparam("rows_max"))',
    ),
    Mutant(
        "the account is asked for once, and never again",
        "gateway_client/driver.py",
        "return self._met if isinstance(self._met, Account) and self._time.trusted else None",
        "return self._met if isinstance(self._met, Account) else None",
    ),
)
