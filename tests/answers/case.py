"""One case: an intent, what people and machines do about it, and how it comes to rest.

Everything follows from the seed; `told` is its story.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway_client import Money, PaymentIntent
from gateway_client.charge import Charge
from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import BeginSend, Begun, Bind, Claim, Effect, Send
from gateway_client.gateways.base import Binding
from gateway_client.state import State
from gateway_client.store.claim import bind
from gateway_client.store.findings import close_finding
from tests.answers import lengths as drawn
from tests.answers.judge import Judge
from tests.answers.lengths import GAPS_S, HOLD_S, HOUR, MOMENTS_S, pick
from tests.answers.machine import GATEWAYS, KEYS, Machine, MachineClock
from tests.answers.network import Network
from tests.answers.provider import ACCOUNT, Payment, Provider
from tests.sim.decisions import Dice
from tests.sim.memory import Memory

START_S = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()
BINDING = Binding("stripe", "test", ACCOUNT, "default")
ORDER = PaymentIntent("order_1", Money(2000, "usd"), "pm_card_visa")
STANDS_S = (5.0, 400.0, 5000.0, 20 * HOUR, 30 * HOUR)


class Died(BaseException):
    """The process is gone in the middle of a call."""


class Case:
    """The case of a seed."""

    def __init__(self, seed: int, store: Memory, *, verbose: bool = False) -> None:
        self.dice = Dice(seed + 2_000_000_011)
        self.lengths = drawn.draw(self.dice)
        self.store = store
        self.told: list[str] | None = [] if verbose else None
        self.provider = Provider(self.dice, self.lengths, START_S, self._tell)
        self.network = Network(self.dice, self.lengths, self.provider)
        self.clock = MachineClock(self.provider, self.dice, self.lengths.host_wrong)
        self.judge = Judge(self)
        self.made: dict[int, dict[str, float]] = {}  # attempts: when the lists were read in the call that made it
        self.healed = False
        self._nights = 0
        store.empty()
        store.database.transact(lambda tx: bind(tx, Bind(BINDING)), time=lambda: datetime.fromtimestamp(START_S, UTC))
        if self.lengths.stranger:
            self._add_stranger()
        self.machine = self._started(KEYS[0])
        self._tell(str(self.lengths))

    def run(self) -> None:
        """The whole case. Raises Broken when something does not hold."""
        self._do("charge")
        for gaps, action in self.lengths.plot:
            if self.dice.hits(0.1):
                self._wait(GAPS_S)
                self._do(drawn.action(self.dice))
            self._wait(gaps)
            self._do(action)
        for _ in range(self.lengths.actions):
            self._wait(GAPS_S)
            self._do(drawn.action(self.dice))
        self._come_to_rest()
        self.judge.at_rest()

    # --- time and machines

    def _tell(self, line: str) -> None:
        if self.told is not None:
            self.told.append(f"{timedelta(seconds=round(self.provider.now - START_S, 2))!s:>22}  {line}")

    def _wait(self, gaps_s: tuple[float, ...]) -> None:
        now, dice = self.provider.now, self.dice
        moment = START_S + pick(dice, *MOMENTS_S) if dice.hits(0.1) else now + pick(dice, *gaps_s)
        self.provider.go_to(max(now, moment))
        self.network.date_skew = pick(dice, *self.lengths.date_skews)

    def _started(self, credential: str) -> Machine:
        return Machine(credential, self.clock, self.store.database, self.network, self._meet)

    def _meet(self, effect: Effect[Any], perform: Callable[[Effect[Any]], Any]) -> Any:
        """One effect of a machine, and whatever befalls it before."""
        network = self.network
        if not self.healed:
            if self.dice.hits(self.lengths.dies):
                raise Died
            if self.dice.hits(self.lengths.pauses):
                self._pause(effect)
            if isinstance(effect, Send) and self.dice.hits(0.02):
                seconds = pick(self.dice, 9.0, 12.0)  # to the first byte: that is counted apart
                self.clock.sleep(seconds)
                network.checked_at += seconds
        if isinstance(effect, Claim) or (isinstance(effect, BeginSend) and not effect.time_asked):
            network.checked_at = self.provider.now
        result = perform(effect)
        charge = result.charge if isinstance(result, Begun) else result
        if isinstance(effect, Claim) and isinstance(charge, Charge):
            self.made.setdefault(charge.attempt, dict(network.read_at))
        if isinstance(result, Begun):
            attempt, first = result.charge.attempt, result.send_no == 1
            read_at = self.made.get(attempt, {}) if first else dict(network.read_at)
            self.judge.read_at.setdefault((attempt, network.credential), read_at)
        return result

    @staticmethod
    def credential_id(credential: str) -> str:
        """The name of an API key in the store."""
        return GATEWAYS[credential].credential_id

    def _pause(self, effect: Effect[Any]) -> None:
        """Stand still before an effect: between the check of the time and the first byte that is a hold."""
        seconds = pick(self.dice, *STANDS_S)
        if isinstance(effect, Send) or (isinstance(effect, BeginSend) and effect.time_asked):
            seconds = min(seconds, max(0.0, HOLD_S - (self.provider.now - self.network.checked_at)))
        self._tell(f"paused for {seconds:g} s before {type(effect).__name__}")
        self.clock.stand_still(seconds)

    def _add_stranger(self) -> None:
        made = Payment("pi_999", "succeeded", int(START_S) + 60, 2000, "usd", {}, ACCOUNT, KEYS[0], START_S, "ch_999")
        self.provider.payments.append(made)

    # --- actions

    def _do(self, name: str) -> None:
        self._tell(f"-- {name}")
        self.network.read_at = {}
        try:
            self._act(name)
        except ChargeOnceError as error:
            self._tell(f"   {type(error).__name__}: {error}")
        except Died:
            self._tell("   the process died")
            self.machine = self._started(self.network.credential)
        if self.told is not None:
            self._tell("   " + "; ".join(f"{row.attempt} {row.state} {row.charge_id}" for row in self.judge.rows()))
        self.judge.look()

    def _act(self, name: str) -> None:
        match name:
            case "charge":
                self.machine.charge(ORDER)
            case "next attempt":
                self.machine.charge(ORDER, attempt=max((row.attempt for row in self.judge.rows()), default=0) + 1)
            case "resume":
                self.machine.resume()
            case "cancel":
                self.machine.cancel(ORDER.intent_id, because="the order was cancelled")
            case "night":
                self._night(pick(self.dice, 0, 1, 1))
            case "rotate":
                self.machine = self._started(pick(self.dice, KEYS[1], KEYS[1], *KEYS))
                self._tell(f"   to {self.network.credential}")
            case "restart":
                self.machine = self._started(self.network.credential)
            case "pause":
                self.clock.stand_still(pick(self.dice, *STANDS_S))
            case "set the clock":
                self.clock.set_right()
            case "resolve":
                self._resolve()

    def _night(self, days_ago: int) -> None:
        self._nights += 1
        now = datetime.fromtimestamp(self.clock.time(), UTC)
        self.machine.reconcile((now - timedelta(days=days_ago)).date(), self._nights)

    def _resolve(self) -> None:
        """A person closes every finding that is open."""
        open_ones = self.store.read("SELECT id FROM paycli_findings WHERE closed_at IS NULL ORDER BY id")
        for (finding_id,) in open_ones:
            self.machine.transact(
                lambda tx, which=finding_id: close_finding(tx, which, "seen")  # type: ignore[misc]
            )

    # --- the end

    def _come_to_rest(self) -> None:
        """All is well again: honest answers, right clocks, our key; then nights until nothing is left to do."""
        self._tell("-- all is well again")
        self.healed = self.network.healed = True
        self.clock.set_right()
        self.network.date_skew = 0.0
        self.machine = self._started(KEYS[0])
        self.provider.go_to(max(self.provider.now + 24 * HOUR, self.provider.last_due + self.lengths.lag + 1))
        self._do("resume")
        if any(row.state.pending for row in self.judge.rows()):
            self._do("cancel")
            self.provider.go_to(self.provider.now + 80 * HOUR)
            self._do("resume")
        self.provider.go_to(max(self.provider.now, self.provider.last_due) + self.lengths.lag + 1)
        if not self._anything_to_find():
            return
        ours = [payment for payment in self.provider.payments if payment.key is not None]
        self.provider.go_to(self.provider.now + 24 * HOUR)  # every day of the case is over
        today = datetime.fromtimestamp(self.provider.now, UTC).date()
        days = {datetime.fromtimestamp(payment.created, UTC).date() for payment in ours} | {today}
        for day in sorted(days):
            self._nights += 1
            self._tell(f"-- the night of {day}")
            self.machine.reconcile(day, self._nights)
            self.judge.look()

    def _anything_to_find(self) -> bool:
        """Whether a night is due: a run of most cases in which all is said and done would only take time."""
        successes = self.provider.successes
        succeeded = [row for row in self.judge.rows() if row.state is State.SUCCEEDED]
        return len(successes) != len(succeeded) or len(successes) > 1 or self.dice.hits(0.05)
