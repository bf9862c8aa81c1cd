"""Situations that a campaign must have reached: a check that never saw trouble proves nothing.

The ghost writes down what it sees; here is what must be among it. A large enough campaign that has missed one fails.
"""

from __future__ import annotations

from gateway_client.finding import Action, Code
from gateway_client.state import TRANSITIONS
from tests.sim.network import BODIES, INSIDE, OTHERS
from tests.sim.weather import AT_A_COMMIT, AT_A_GET, AT_A_REQUEST, ON_THE_WAY, PROVIDER_FAULTS, UNMOVED

SCHEDULES_MIN = 50_000
"""The rarest situation is seen in about one schedule of some thousands."""

# Edges that only a person at the provider's dashboard, or a restored database, draws. Seen less than once in ten
# thousand schedules, they are counted, and not demanded. `test_states.py` walks them all.
RARE = frozenset(
    {
        *(
            f"prepared → {state}"
            for state in ("unknown", "succeeded", "declined", "processing", "requires_action", "conflict")
        ),
        *(f"{state} → requires_action" for state in ("sending", "unknown", "processing", "conflict")),
        *(f"requires_action → {state}" for state in ("succeeded", "declined", "canceled", "processing", "conflict")),
        "conflict → absent",
        "conflict → canceled",
    }
)

EDGES = frozenset(
    f"{state} → {after}"
    for state, exits in TRANSITIONS.items()
    for after in {to for to in exits.values() if to is not state}
)

KILLED = frozenset(
    f"killed {when}"
    for when in (
        *("before Claim", "after Claim", "before BeginSend", "after BeginSend"),  # p1, p2, p3
        *("before Claim and BeginSend", "after Claim and BeginSend"),  # p1 and p3, where it is one commit
        *("before Send", "in Send", "before Settle", "after Settle"),  # p3 to p7
        *("after OpenRun", "after SavePages", "before SavePages", "after Repair", "before Repair", "before EndRun"),
        *("in Ask", "after ProveAbsent", "before ProveAbsent", "after GiveUp"),
        *("before Lease", "after Lease", "before Release", "after Release"),
    )
)

FINDINGS = frozenset(
    {f"finding {code} {Action.FLAGGED}" for code in Code if code is not Code.OUTCOME_RECOVERED}
    | {f"finding {Code.OUTCOME_RECOVERED} {Action.REPAIRED}"}
)

MOMENTS = frozenset(
    {
        "status 409",
        "status 500",
        "timeout",
        "timeout, and the charge succeeded",
        "500, and the charge succeeded",
        "ended after its key was pruned",
        "left uncharged, and cancelled",
        "too late to be sent",
        "attempt 2 succeeded",
        "paused before the first byte",
        "made between two pages",
        "a run is held",
        "a run was taken over",
        "reconcile and resume at once",
        "one order charged at once",
        "a second night",
        "an outage",
        "killed with its host",
        "without leases",
        "restored",
        "restored with a call under way",
        "clock refused",
        "refused: ConfigurationError",
        "refused: AttemptRefused",
        "refused: IntentConflict",
        "refused: NeedsPerson",
        "OutcomeNotRecorded",
        "a worker and charge at once",
        "a worker and resume at once",
        "a worker and reconcile at once",
        "two workers at once",
        "two workers at one row",  # without leases
        "the row of a worker that was paused for too long was taken",
        "the row of a worker that has died was taken",
        "a lease was over at the gate",
        "a worker was told to end with rows in hand",
        "a worker died with rows in hand",
        "a worker was asked to wait",
        "the bucket was empty, and the provider answers",
        "a poison row was set aside",
        "workers heal",
    }
)

# The unkind world: each of what may happen on the way, on each kind of request, and each answer of another delivery.
ON_EVERY_WAY = tuple(what for what in ON_THE_WAY if what not in UNMOVED and what not in AT_A_GET)
UNKIND = (
    frozenset(f"post: {what}" for what in ON_THE_WAY if what not in AT_A_GET)
    | frozenset(f"{kind}: {what}" for kind in ("get", "meet") for what in (*ON_EVERY_WAY, *AT_A_GET))
    | frozenset(f"doubled {what}" for what in (*OTHERS, "slow", "twice"))
    | frozenset(f"box {what.replace(' ', '_')}" for what in BODIES)
    | frozenset(f"held {what}" for what in INSIDE)
    | {f"post: {what}" for what in ("held_500", "hidden_500", "doubled_500")}
    | {f"hand: {what}" for what in ("key", "namespace", "both", "strip", "claim")}
    | {
        "closed: status_mismatch",
        "a list told another reading's page",
        "a machine stood still for days",
        "both clocks stood still at a re-send",
        "a request was held for an hour, until its key was nearly pruned",
        "a send was charged, and refused in so many words",
        "rejected, and charged by the other delivery",
        "outside the model: more than an hour after our last check of the time",
        "refused: AccountRefused",
        "the provider echoes no error",
    }
)

MUST = (
    frozenset(f"commit: {what}" for what in AT_A_COMMIT)
    | frozenset(f"post: {what}" for what in (*AT_A_REQUEST, *PROVIDER_FAULTS))
    | UNKIND
    | KILLED
    | (EDGES - RARE)
    | FINDINGS
    | MOMENTS
)
