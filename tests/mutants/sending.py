"""Mistakes about what is on disk before a send, and about the time that a key lives."""

from tests.mutants.mutant import Mutant

CHARGING = "gateway_client/flow/charging.py"
STRIPE = "gateway_client/gateways/stripe_api.py"
GATE = "gateway_client/store/gate.py"
CLOCK = "gateway_client/clock.py"
SETTLE = "gateway_client/store/settle.py"

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
        "run(session, _INSERT_SEND, send)",
        "pass",
    ),
    Mutant(
        "network inside a transaction",
        "gateway_client/client.py",
        "return self._learn(self._wire.exchange(effect.request, effect.begun.age_s))",
        "return self._database.transact(\n"
        "                    lambda session: self._learn(self._wire.exchange(effect.request, effect.begun.age_s))\n"
        "                )",
        incident="ampled-music/ampled #731: the call to Stripe was wrapped into the database's transaction",
    ),
    Mutant(
        "settle before commit: an end is told and not on disk",
        CHARGING,
        "charge = yield from settle(setup, step.charge, answer, step.send_no)",
        "charge = (\n"
        "            replace(step.charge, state=State(answer.name))\n"
        "            if answer.name in ('succeeded', 'declined')\n"
        "            else (yield from settle(setup, step.charge, answer, step.send_no))\n"
        "        )",
        incident="codecombat/codecombat #1906: charged while the database was down, and nothing was recorded",
    ),
    Mutant(
        "the end of a send is not written down",
        CHARGING,
        "charge = yield from settle(setup, step.charge, answer, step.send_no)",
        "charge = yield from settle(setup, step.charge, answer)",
    ),
    Mutant(
        "a send begun long ago still leaves",
        "gateway_client/wire.py",
        "if self._age_s() > BEGUN_S_MAX:",
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
        GATE,
        "over = first is not None and max(now - first, clock - (first_db or clock)) >= effect.profile.key_life",
        "over = False",
        incident="crbnos/carbon #252: keys live 24 hours, afterwards the same request is executed again",
        planted="re-send after 24 h",
    ),
    Mutant(
        "the key's life counts from the last send",
        GATE,
        'first, first_db = row["first_sent_at"], row["first_sent_db_at"]',
        'first = first_db = record.sends[-1]["begun_at"] if record.sends else None',
    ),
    Mutant(
        "the key's whole life is used",
        STRIPE,
        "key_life=timedelta(hours=23),",
        "key_life=timedelta(hours=24),",
    ),
    Mutant(
        "what is closed is sent",
        GATE,
        '        or row["closed_at"] is not None\n',
        "",
    ),
    Mutant(
        "a send that did not leave forgets the first one",
        SETTLE,
        "if event is Event.NOT_EXECUTED and nothing_left:",
        "if isinstance(outcome, NotExecuted):",
    ),
    Mutant(
        "closed, and one send did not leave: canceled",
        SETTLE,
        "if nothing_left and record.row",
        "if event is Event.NOT_EXECUTED and record.row",
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
    ),
    Mutant(
        "the provider's time is asked for once in a process",
        CLOCK,
        "return learned is not None and learned.elapsed_s() < SILENCE_S_MAX and learned.drift_s() < DRIFT_S_MAX",
        "return learned is not None",
    ),
    Mutant(
        "the time is not looked at again before a send",
        "gateway_client/driver.py",
        "if isinstance(effect, BeginSend):\n                self._time.check()",
        "if False:\n                self._time.check()",
        seeds_max=20_000,
    ),
)
