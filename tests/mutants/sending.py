"""Mistakes about what is on disk before a send, and about the time that a key lives."""

from tests.mutants.mutant import Mutant

CHARGING = "gateway_client/flow/charging.py"
ATTEMPTS = "gateway_client/store/attempts.py"
CLIENT = "gateway_client/client.py"
DRIVER = "gateway_client/driver.py"
GATE = "gateway_client/store/gate.py"
EVIDENCE = "gateway_client/evidence.py"
BOUNDS = "gateway_client/bounds.py"
CLOCK = "gateway_client/clock.py"
ANSWERS = "gateway_client/gateways/stripe_answers.py"
SETTLE = "gateway_client/store/settle.py"

_KEY_LIFE = "return self.key_pruned_after - self.hold - self.first_byte - 2 * self.clock_tolerance"

_REFUSED = "return Rejected(reason) if cause is None else Refused(cause, reason)"
_NOT_EXECUTED = (
    "from gateway_client.outcome import NotExecuted\n\n"
    "    return Rejected(reason) if cause is None else NotExecuted(cause, reason)"
)

MUTANTS = (
    Mutant(
        "the time of the first send is not on disk",
        GATE,
        'first = {"first_sent_at": now, "first_sent_db_at": clock} if row["first_sent_at"] is None else {}',
        "first: dict[str, object] = {}",
    ),
    Mutant(
        "a send is not written down before it leaves",
        GATE,
        "tx.write(INSERT_SEND, send)",
        "pass",
        also=(ATTEMPTS, "tx.write(INSERT_SEND, send)", "pass"),
    ),
    Mutant(
        "a send before its commit: it leaves, although what holds its row was not committed",
        CLIENT,
        "result = self._database.transact(self._work(effect, records), **self._transaction_of(effect))",
        "from gateway_client.flow.effects import Begun\n\n"
        "            made = []\n"
        "            work = self._work(effect, records)\n"
        "            try:\n"
        "                result = self._database.transact(\n"
        "                    lambda tx: made.append(work(tx)) or made[-1], **self._transaction_of(effect)\n"
        "                )\n"
        "            except StoreUnavailable:\n"
        "                if not made or not isinstance(made[-1], Begun):\n"
        "                    raise\n"
        "                result = made[-1]",
    ),
    Mutant(
        "a claim begins a send that the gate would not let through",
        ATTEMPTS,
        "if effect.begin_with is None or judge(_first_send(effect, new, effect.begin_with), facts, new, tx.now) is not "
        "None:",
        "if effect.begin_with is None:",
        kept="a machine that stood still in its claim",
    ),
    Mutant(
        "a claim begins a send while the account or the provider's time is not known",
        DRIVER,
        "known = isinstance(met, Account) and met.account == effect.binding.account",
        "known = True",
    ),
    Mutant(
        "the clock that the store has seen is not read: only when it was made",
        "gateway_client/store/reading.py",
        "return made if begun is None else max(made, begun)",
        "return made",
        kept="a machine that stood still in its claim",
    ),
    Mutant(
        "network inside a transaction",
        CLIENT,
        "return self._learn(effect.request, self._wire.exchange(effect.request, effect.begun.age_s))",
        "request, begun = effect.request, effect.begun\n"
        "                return self._database.transact(\n"
        "                    lambda tx: self._learn(request, self._wire.exchange(request, begun.age_s))\n"
        "                )",
        incident="ampled-music/ampled #731: the call to Stripe was wrapped into the database's transaction",
    ),
    Mutant(
        "settle before commit: an end is told and not on disk",
        CHARGING,
        "charge = yield from settle(setup, step.charge, answer, step)",
        "charge = (\n"
        "            replace(step.charge, state=type(step.charge.state)(answer.name))\n"
        "            if answer.name in ('succeeded', 'declined')\n"
        "            else (yield from settle(setup, step.charge, answer, step))\n"
        "        )",
        incident="codecombat/codecombat #1906: charged while the database was down, and nothing was recorded",
    ),
    Mutant(
        "the end of a send is not written down",
        CHARGING,
        "charge = yield from settle(setup, step.charge, answer, step)",
        "charge = yield from settle(setup, step.charge, answer)",
    ),
    Mutant(
        "a send begun long ago still leaves",
        "gateway_client/wire.py",
        "if age_s() > BEGUN_S_MAX:",
        "if False:",
    ),
    Mutant(
        "sends of a call are not bounded",
        CHARGING,
        "used_up = waited_s >= policy.in_flight_s_max if isinstance(outcome, InFlight) else sends >= policy.sends_max",
        "used_up = waited_s >= policy.in_flight_s_max if isinstance(outcome, InFlight) else False",
    ),
    # How long a key lives
    Mutant(
        "re-send after 24 h",
        BOUNDS,
        _KEY_LIFE,
        "return 3 * self.key_pruned_after",
        incident="crbnos/carbon #252: keys live 24 hours, afterwards the same request is executed again",
        planted="re-send after 24 h",
    ),
    Mutant(
        "the key's life counts from the last send",
        GATE,
        'first, first_db = row["first_sent_at"], row["first_sent_db_at"]',
        'first = first_db = record.sends[-1]["begun_at"] if record.sends else None',
        also=(EVIDENCE, "known.now - charge.first_sent_at >=", "known.now - (charge.last_sent_at or known.now) >="),
    ),
    Mutant(
        "the key's whole life is used",
        BOUNDS,
        _KEY_LIFE,
        "return self.key_pruned_after",
    ),
    Mutant(
        "an hour is enough for the way and the clocks: a key lives 23 hours",
        BOUNDS,
        _KEY_LIFE,
        "return self.key_pruned_after - timedelta(hours=1)",
        kept="P9",
    ),
    Mutant(
        "what is closed is sent",
        GATE,
        "if record.state not in SENDABLE or closed or record.server_errors() >= effect.profile.server_errors_max:",
        "if record.state not in SENDABLE or record.server_errors() >= effect.profile.server_errors_max:",
        also=(EVIDENCE, "if charge.closed_at is not None:", "if False:"),
    ),
    Mutant(
        "a send that did not leave forgets the first one",
        SETTLE,
        "    if nothing_left:\n        # Else",
        "    if answer.name == 'not_executed':\n        # Else",
    ),
    Mutant(
        "our own clock counts the key's life",
        CLOCK,
        "return self._local() + self._offset",
        "return self._local()",
    ),
    Mutant(
        "a clock that was set is believed",
        CLOCK,
        "return learned is not None and learned.elapsed_s() < SILENCE_S_MAX and learned.drift_s() < DRIFT_S_MAX",
        "return learned is not None and learned.elapsed_s() < SILENCE_S_MAX",
        kept="a clock that is behind",
    ),
    Mutant(
        "the provider's time is asked for once in a process",
        CLOCK,
        "return learned is not None and learned.elapsed_s() < SILENCE_S_MAX and learned.drift_s() < DRIFT_S_MAX",
        "return learned is not None",
        kept="a clock set ahead",
    ),
    Mutant(
        "the time is not looked at again before a send",
        DRIVER,
        "if isinstance(effect, BeginSend):\n                self._time.check()",
        "if False:\n                self._time.check()",
        kept="a clock set ahead",
    ),
    Mutant(
        "the time is not asked before a re-send",
        CHARGING,
        "unasked = yield from meet(setup, binding, anew=again)",
        "unasked = yield from meet(setup, binding)",
        kept="P6",
    ),
    Mutant(
        "the gate does not want the time to be asked",
        GATE,
        "if record.left() and not effect.time_asked:",
        "if False:",
        kept="a machine that stood still at the gate",
    ),
    Mutant(
        "the time of the first send is cleared, although a send was refused",
        ANSWERS,
        _REFUSED,
        _NOT_EXECUTED,
        kept="P2: delivered twice",
    ),
    Mutant(
        "the time of the first send is cleared, whoever wrote the refusal",
        ANSWERS,
        _REFUSED,
        _NOT_EXECUTED,
        also=(ANSWERS, 'echoed = reply.headers.get("idempotency-key") == expected.key', "echoed = True"),
        kept="P3: a filter's 401",
    ),
    Mutant(
        "what is in doubt under another API key is sent under this one at once",
        GATE,
        "held = _hold_other_credential(effect, record, now)",
        "held = None",
    ),
    Mutant(
        "one reading is enough for another API key, whenever it was begun",
        GATE,
        "if effect.read_at is not None and effect.read_at >= sendable_at:",
        "if effect.read_at is not None:",
    ),
)
