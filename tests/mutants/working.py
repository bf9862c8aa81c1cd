"""Mistakes about workers: leases, what is set aside, the bucket and the rate, and how a worker ends."""

from tests.mutants.mutant import Mutant

WORKING = "gateway_client/flow/working.py"
LEASES = "gateway_client/store/leases.py"
GATE = "gateway_client/store/gate.py"
PACE = "gateway_client/pace.py"

_HOLDS = 'return bool(clock + timedelta(seconds=BEGUN_S_MAX) < row["leased_until"])'
_UNTIL = "or_(_over(charges.c.leased_until)"

MUTANTS = (
    Mutant(
        "a row is set aside because a clock is refused",
        "gateway_client/flow/working.py",
        "except (ClockRefused, ProviderUnavailable, _Stopped):\n            rows.spare(charge)",
        "except (ProviderUnavailable, _Stopped):\n            rows.spare(charge)",
        test="tests/test_worker.py::test_a_refused_clock_sets_no_row_aside[sync]",
    ),
    # Leases
    Mutant(
        "lease trusted: the gate does not read it again",
        GATE,
        "if effect.lease_of is not None and not holds(record.row, effect.lease_of, facts.clock):",
        "if False:",
    ),
    Mutant(
        "a lease is its holder's, however long ago it was over",
        LEASES,
        _HOLDS,
        "return True",
    ),
    Mutant(
        "a send is begun in the last seconds of a lease",
        LEASES,
        _HOLDS,
        'return bool(clock < row["leased_until"])',
        kept="a worker wakes with",
    ),
    Mutant(
        "a lease is compared the wrong way round",
        LEASES,
        _UNTIL,
        "or_((charges.c.leased_until < _AT).is_not(true())",
    ),
    Mutant(
        "a lease keeps nobody away",
        LEASES,
        _UNTIL,
        "or_(true()",
    ),
    Mutant(
        "a lease is never over",
        LEASES,
        _UNTIL,
        "or_(charges.c.leased_until.is_(None)",
    ),
    Mutant(
        "what a clock a day ahead has leased or set aside is believed",
        LEASES,
        "return or_((until > _AT).is_not(true()), (until > _AHEAD).is_(true()))",
        "return (until > _AT).is_not(true())",
        kept="a worker whose clock is a day ahead dies",
    ),
    Mutant(
        "a lease is shorter than the call",
        WORKING,
        "leased = yield from Lease(plan.worker, rows_max, 2 * plan.call_s_max, plan.timeout_s + BEGUN_S)",
        "leased = yield from Lease(plan.worker, rows_max, plan.timeout_s, plan.timeout_s + BEGUN_S)",
    ),
    Mutant(
        "rows are begun until the last second of a lease",
        WORKING,
        "if now >= rows.begun_by:",
        "if False:",
    ),
    Mutant(
        "rows that another worker has by now are given back",
        LEASES,
        '(_OF_KEYS, charges.c.leased_by == bindparam("of_worker"))',
        '(_OF_KEYS, or_(charges.c.leased_by == bindparam("of_worker"), charges.c.leased_by.is_not(None)))',
    ),
    Mutant(
        "a row is taken while somebody waits for its answer",
        LEASES,
        "        ~_OPEN_SEND,  # somebody waits for the answer\n",
        "        or_(~_OPEN_SEND, charges.c.intent_id.is_not(None)),\n",
        kept="a worker comes while",
    ),
    Mutant(
        "the youngest deadline first",
        LEASES,
        "        charges.c.first_sent_at.asc().nulls_last(),\n",
        "        charges.c.first_sent_at.desc().nulls_last(),\n",
    ),
    # What is set aside
    Mutant(
        "what could not be finished is not set aside",
        WORKING,
        "rows = tuple((each.idempotency_key, aside_s.get(each.idempotency_key)) for each in leased)",
        "rows = tuple((each.idempotency_key, None) for each in leased)",
    ),
    Mutant(
        "what is set aside is taken all the same",
        LEASES,
        "_over(charges.c.resume_at),",
        "true(),",
    ),
    Mutant(
        "the time that a row is left alone does not grow",
        WORKING,
        "seconds = min(RETRY_S * 2.0 ** min(max(charge.sends - 1, 0), 30), RETRY_S_MAX)",
        "seconds = RETRY_S",
    ),
    Mutant(
        "a worker retries at once, as a call does",
        WORKING,
        "setup = replace(setup, policy=replace(setup.policy, sends_max=1, in_flight_s_max=0.0))",
        "pass",
    ),
    Mutant(
        "a poison row stops the worker",
        WORKING,
        "except (NeedsPerson, UnknownIntent) as error:",
        "except ZeroDivisionError as error:",
    ),
    Mutant(
        "a poison row comes back at once",
        WORKING,
        "rows.set_aside(charge, plan.between(POISON_S, POISON_S * 1.5))",
        "rows.spare(charge)",
    ),
    # The bucket and the rate
    Mutant(
        "the bucket is never empty",
        PACE,
        "return self._tokens < _RETRY",
        "return False",
    ),
    Mutant(
        "a failure takes no token",
        PACE,
        "self._tokens = max(0, self._tokens - _RETRY)",
        "pass",
    ),
    Mutant(
        "busy is no failure",
        PACE,
        "if reply in FAILURES:",
        "if reply in FAILURES and reply is not ReplyClass.BUSY:",
    ),
    Mutant(
        "a success gives a whole token",
        PACE,
        "_SUCCESS, _RETRY = 1, 10",
        "_SUCCESS, _RETRY = 10, 10",
    ),
    Mutant(
        "the bucket stays empty when the provider answers",
        PACE,
        'has answered the question that was asked because the bucket was empty."""\n        self._tokens = TOKENS_MAX',
        'has answered the question that was asked because the bucket was empty."""',
    ),
    Mutant(
        "a provider that is away is asked every second",
        WORKING,
        "yield from Wait(PROBE_S, PROBE_S)",
        "yield from Wait(1.0, 1.0)",
    ),
    Mutant(
        "the rate is not kept",
        WORKING,
        "yield from _pause(plan, pace.wait_s((yield from Now())))",
        "pass",
    ),
    Mutant(
        "Retry-After is not heard",
        WORKING,
        "pace.held((yield from Now()), effect.answer.retry_after_s)",
        "pass",
    ),
    # How it ends
    Mutant(
        "the wish to end is heard between two batches only",
        WORKING,
        "if isinstance(effect, BeginSend | Ask | MeetProvider | Lease) and plan.stopping():",
        "if isinstance(effect, Lease) and plan.stopping():",
    ),
    Mutant(
        "who waits does not hear that it is to end",
        WORKING,
        "        if plan.stopping():\n            raise _Stopped\n        left -=",
        "        left -=",
    ),
    Mutant(
        "who is told to end keeps its rows",
        WORKING,
        "    except (ChargeOnceError, _Stopped) as error:\n        failure = error",
        "    except ChargeOnceError as error:\n        failure = error",
    ),
)
