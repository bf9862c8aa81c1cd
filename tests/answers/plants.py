"""Rules broken on purpose, one statement each: after how many answers does the fuzzer see it?

`python -m tests.answers.plants [WORD …]` plants them one after the other. As in `tests/mutants/` a mistake is data, and
is put in place of its module in a child process; this process never imports the code under test.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass

from tests.mutants.mutant import Mutant, mutate

ANSWERS_MAX = 400_000

STRIPE_ANSWERS = "gateway_client/gateways/stripe_answers.py"
STRIPE = "gateway_client/gateways/stripe_api.py"
STRIPE_PAGES = "gateway_client/gateways/stripe_pages.py"
BOUNDS = "gateway_client/bounds.py"
STATE = "gateway_client/state.py"
RECORD = "gateway_client/record.py"
SETTLE = "gateway_client/store/settle.py"
GATE = "gateway_client/store/gate.py"
CLAIM = "gateway_client/store/claim.py"
ABSENCE = "gateway_client/absence.py"
CLEARING = "gateway_client/flow/clearing.py"
LOOKUP = "gateway_client/flow/lookup.py"

PLANTS = (
    Mutant(
        "an un-echoed 400 is believed",
        STRIPE_ANSWERS,
        '    if not proven:\n        return Unknown(f"{reason};',
        '    if not proven and cause is not None:\n        return Unknown(f"{reason};',
    ),
    Mutant(
        "the echo is not compared",
        STRIPE_ANSWERS,
        "    why_not = why_not_an_answer(expected.key, reply)\n"
        "    if why_not is not None:\n"
        "        return replace(base, outcome=Unknown(why_not))\n"
        '    echoed = reply.headers.get("idempotency-key") == expected.key\n',
        '    echoed = "idempotency-key" in reply.headers\n',
    ),
    Mutant(
        "a cached answer is an answer",
        STRIPE_ANSWERS,
        'if reply.headers.get("age", "0").strip() != "0":',
        "if False:",
    ),
    Mutant(
        "a 429 clears first_sent_at",
        STRIPE_ANSWERS,
        "return Rejected(reason) if cause is None else Refused(cause, reason)",
        "from gateway_client.outcome import NotExecuted\n\n"
        "    return Rejected(reason) if cause is None else NotExecuted(cause, reason)",
    ),
    Mutant(
        "a nameless 402 without an echo is believed",
        STRIPE_ANSWERS,
        "proven=echoed or intent is not None)",
        "proven=True)",
    ),
    Mutant(
        "a key lives for 24 hours",
        BOUNDS,
        "return self.key_pruned_after - self.hold - self.first_byte - 2 * self.clock_tolerance",
        "return self.key_pruned_after",
    ),
    Mutant(
        "a key lives for 23 hours, whatever is held",
        BOUNDS,
        "return self.key_pruned_after - self.hold - self.first_byte - 2 * self.clock_tolerance",
        "return timedelta(hours=23, minutes=55)",
    ),
    Mutant(
        "the next attempt after rejected reads nothing",
        CLAIM,
        "why_not(Step.NEXT_ATTEMPT, known) is not None)",
        "(previous.state is not State.REJECTED and why_not(Step.NEXT_ATTEMPT, known) is not None))",
    ),
    Mutant(
        "the next attempt after absent reads nothing",
        CLAIM,
        "why_not(Step.NEXT_ATTEMPT, known) is not None)",
        "(previous.state is not State.ABSENT and why_not(Step.NEXT_ATTEMPT, known) is not None))",
    ),
    Mutant(
        "quiet time without the hold",
        BOUNDS,
        "return self.hold + self.first_byte + self.execution + self.list_lag + 2 * self.clock_tolerance",
        "return self.first_byte + self.execution + self.list_lag + 2 * self.clock_tolerance",
    ),
    Mutant(
        "quiet time without the lists' lag",
        BOUNDS,
        "return self.hold + self.first_byte + self.execution + self.list_lag + 2 * self.clock_tolerance",
        "return self.hold + self.first_byte + self.execution + 2 * self.clock_tolerance",
    ),
    Mutant(
        "the object inside another's error is ours",
        STRIPE_ANSWERS,
        "    if intent is not None and intent_item(intent).key != expected.key:\n"
        "        return replace(base, outcome=Unknown(_ANOTHER))\n",
        "    expected = replace(expected, key=None)\n",
    ),
    Mutant(
        "a success of another payment is ours",
        STRIPE_ANSWERS,
        "    if item.key != expected.key:\n",
        "    item = replace(item, key=expected.key)\n    if False:\n",
    ),
    Mutant(
        "the time is not asked before another send",
        "gateway_client/client.py",
        "if anew:  # nobody else's",
        "if False:  # nobody else's",
    ),
    Mutant(
        "every ended send is answered",
        RECORD,
        'unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left)',
        'unproven=any(send["status"] is None for send in left)',
    ),
    Mutant(
        "an answer in any words is answered",
        RECORD,
        'unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left)',
        'unproven=not all(send["outcome"] in RESULTS or send["status"] in (400, 404, 429) for send in left)',
    ),
    Mutant(
        "absence does not wait for a 500 that nobody read",
        ABSENCE,
        "return charge.quiet_from + quiet_for(charge, bounds)",
        "return charge.quiet_from + bounds.quiet",
    ),
    Mutant(
        "a 500 that was read is proof",
        RECORD,
        'unproven=not all(send["proven"] and send["outcome"] in RESULTS for send in left)',
        'unproven=not all(send["proven"] and (send["outcome"] in RESULTS or send["status"] == 500) for send in left)',
    ),
    Mutant(
        "a given up attempt in doubt is cancelled at once",
        SETTLE,
        "if why_not(Step.CANCEL, Known(record.charge(), effect.profile.bounds, tx.now)) is None:",
        "if True:",
    ),
    Mutant(
        "a rejection counts, whatever became of the other sends",
        STATE,
        "return Event.UNCLEAR if in_doubt else Event.REJECTED",
        "return Event.REJECTED",
    ),
    Mutant(
        "a send under another API key is sent at once",
        GATE,
        "held = _hold_other_credential(effect, record, now)",
        "held = None",
    ),
    Mutant(
        "a send that was refused under another API key is not in doubt",
        GATE,
        "effect.credential_id or not record.left():",
        "effect.credential_id or not record.in_doubt():",
    ),
    Mutant(
        "another API key does not wait for a 500 that nobody read",
        GATE,
        "sendable_at = since + quiet_for(charge, bounds)",
        "sendable_at = since + bounds.quiet",
    ),
    Mutant(
        "attempt 3 reads nothing of attempt 1",
        CLAIM,
        "before = _never_seen(tx, rows[:-1])",
        "before = ()",
    ),
    Mutant(
        "a reading under another API key need not be late",
        GATE,
        "if effect.read_at is not None and effect.read_at >= sendable_at:",
        "if effect.read_at is not None:",
    ),
    Mutant(
        "whatever has a list in it is the list",
        STRIPE_PAGES,
        'if page is None or page.kind != "list" or page.url != path:',
        "if page is None:",
    ),
    Mutant(
        "a look-up that finds nothing is absence",
        ABSENCE,
        "    if scan.begun_at < quiet:",
        "    if False:",
    ),
    Mutant(
        "a finding stops no send",
        "gateway_client/store/facts.py",
        "    finding = facts.finding",
        "    finding = None",
    ),
    Mutant(
        "a pause is not noticed at the first byte",
        "gateway_client/driver.py",
        'result = cast("T", replace(result, age_s=watch.elapsed_s))',
        "pass",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one."""

    name: str
    answers: int
    cases: int
    by: str  # the check that saw it; "" when none did


def seen(plant: Mutant, answers_max: int) -> Verdict:
    """Cases from seed 0 on, until one does not hold."""
    mutate(plant)
    campaign = importlib.import_module("tests.answers.campaign")
    answers = cases = 0
    store = campaign.Memory()
    for seed in range(answers_max):
        ended, failure = campaign.try_one(seed, store)
        answers, cases = answers + ended.network.answers, cases + 1
        if failure is not None:
            return Verdict(plant.name, answers, cases, f"{failure.check}: {failure.why} (seed {seed})")
        if answers >= answers_max:
            break
    return Verdict(plant.name, answers, cases, "")


def main() -> int:
    """0: every mistake was seen. 1: one was not. 2: one could not be planted."""
    parser = argparse.ArgumentParser(prog="python -m tests.answers.plants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only those whose name holds one of these words")
    parser.add_argument("--answers", type=int, default=ANSWERS_MAX, help="the most answers for one")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    chosen = [one for one in PLANTS if not asked.words or any(word in one.name for word in asked.words)]
    for plant in chosen:
        plant.sources  # noqa: B018 - raises when the statement is not there
    begun, unseen = time.monotonic(), 0
    with multiprocessing.get_context("fork").Pool(asked.processes, maxtasksperchild=1) as pool:
        for verdict in pool.imap(_seen, [(plant, asked.answers) for plant in chosen], chunksize=1):
            unseen += not verdict.by
            print(
                f"{verdict.name:<60} {verdict.answers:>9,} {verdict.cases:>8,}  {verdict.by or 'NOT SEEN'}", flush=True
            )
    print(f"{len(chosen) - unseen} of {len(chosen)} seen, in {time.monotonic() - begun:.0f} s")
    return 1 if unseen else 0


def _seen(asked: tuple[Mutant, int]) -> Verdict:
    return seen(*asked)


if __name__ == "__main__":
    sys.exit(main())
