"""The story of a charge from top to bottom: claim, begin, send, settle, look up, give up. No I/O happens here.

Each flow is a generator that yields effects (`effects.py`) and receives their results. A crash, a cancelled task and a
SIGKILL all stop it between two effects and leave the same kind of row; `resume_flow` is the same story told again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from gateway_client.absence import Scan
from gateway_client.charge import Charge
from gateway_client.effects import (
    Ask,
    BeginSend,
    Begun,
    Bind,
    CancelFirst,
    Claim,
    Draft,
    Flow,
    GiveUp,
    Held,
    MeetProvider,
    Next,
    Now,
    ProveAbsent,
    ReadBinding,
    ReadPending,
    Send,
    Settle,
    Tell,
    Wait,
)
from gateway_client.errors import ConfigurationError, NeedsPerson, ProviderUnavailable
from gateway_client.gateways.base import Account, Binding, Gateway, NoReply, Reply, Request
from gateway_client.intent import PaymentIntent
from gateway_client.outcome import Answer, Canceled, Cause, CouldNotAsk, InFlight, NotExecuted, Succeeded, Unknown
from gateway_client.retry import RetryPolicy
from gateway_client.state import State

ASKS_MAX = 3  # tries of one question before it counts as "could not ask"
PENDING_PAGE_ROWS_MAX = 100
UNANSWERED_ROWS_MAX = 3  # charges in a row that nobody answered before resume stops: the provider is down
LOOK_UP_AHEAD = timedelta(minutes=1)  # the provider's `created` may be ahead of our estimate of its time

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Setup:
    """What every flow needs: the gateway, this service's namespace, the limits, and when this process began."""

    gateway: Gateway
    namespace: str
    policy: RetryPolicy
    started_at: datetime


@dataclass(frozen=True, slots=True)
class _Finished:
    """How far a charge came in one go."""

    charge: Charge
    next: Next = Next.NOTHING
    unasked: str | None = None  # why the provider could not be asked, when it could not


def charge_flow(setup: Setup, intent: PaymentIntent, attempt: int | None) -> Flow[Charge]:
    """Charge an intent once: the snapshot of its attempt, whatever became of it."""
    binding = yield from bind_flow(setup)
    draft = partial(_draft, setup.gateway, binding, intent)
    claimed = yield from Claim(intent, attempt, draft)
    if isinstance(claimed, CancelFirst):
        earlier = claimed.charge
        yield from _withdraw(setup, binding, earlier)
        claimed = yield from Claim(intent, attempt, draft, canceled_attempt=earlier.attempt)
    if isinstance(claimed, CancelFirst):
        raise NeedsPerson(f"{intent.intent_id}: its attempts changed under our hands; look at it with `paycli show`")
    if claimed.final:
        return claimed
    done = yield from _finish(setup, binding, claimed)
    if done.next in (Next.LOOK_UP, Next.LOOK_UP_THEN_SEND):
        found, scan = yield from _look_up(setup, [done.charge])
        done = replace(done, charge=found[0])
        if done.next is Next.LOOK_UP_THEN_SEND and _may_send_after(scan, found[0]):
            done = yield from _finish(setup, binding, found[0], looked_up=True)
    if done.unasked is not None:
        return replace(done.charge, reason=done.unasked)
    return done.charge


def prepare_flow(setup: Setup, intent: PaymentIntent, attempt: int | None) -> Flow[Claim]:
    """The claim of an intent, to be performed in the caller's own transaction."""
    binding = yield from bind_flow(setup)
    return Claim(intent, attempt, partial(_draft, setup.gateway, binding, intent))


def cancel_flow(setup: Setup, intent_id: str, because: str) -> Flow[Charge]:
    """Give the newest attempt up. It never moves money."""
    binding = yield from bind_flow(setup)
    charge = yield from GiveUp(intent_id, because)
    if charge.final or charge.provider_intent_id is None:
        return charge
    answer = yield from _cancel_there(setup, binding, charge)
    return (yield from _settle(setup, charge, answer))


def resume_flow(
    setup: Setup, rows_max: int | None, listener: Callable[[Charge], None]
) -> Flow[tuple[Charge, ...]]:
    """Finish every pending charge that can be finished now, oldest first; one scan serves all that must be looked up."""
    binding = yield from bind_flow(setup)
    told: list[Charge] = []
    waiting: list[_Finished] = []
    unasked: str | None = None
    unanswered = 0
    cursor: tuple[datetime, str, int] | None = None
    while rows_max is None or len(told) + len(waiting) < rows_max:
        left = PENDING_PAGE_ROWS_MAX if rows_max is None else rows_max - len(told) - len(waiting)
        page = yield from ReadPending(cursor, min(left, PENDING_PAGE_ROWS_MAX))
        for charge in page:
            done = yield from _advance(setup, binding, charge)
            if done.next is Next.NOTHING:
                told.append(done.charge)
                yield from Tell(done.charge, listener)
            else:
                waiting.append(done)
            unanswered = 0 if done.unasked is None else unanswered + 1
            unasked = done.unasked or unasked
            if unanswered >= UNANSWERED_ROWS_MAX:
                break
        if not page or unanswered >= UNANSWERED_ROWS_MAX:
            break
        cursor = (page[-1].created_at, page[-1].intent_id, page[-1].attempt)
    if waiting and unanswered < UNANSWERED_ROWS_MAX:
        looked_up, incomplete = yield from _look_up_all(setup, binding, waiting)
        unasked = incomplete or unasked
        for charge in looked_up:
            told.append(charge)
            yield from Tell(charge, listener)
    if unasked is not None:
        raise ProviderUnavailable(f"the provider could not be asked: {unasked}. Nothing is lost; run resume again.")
    return tuple(told)


def bind_flow(setup: Setup) -> Flow[Binding]:
    """Whom the store belongs to; an empty one is bound to the credential's account first. Refuses any other credential."""
    gateway = setup.gateway
    binding = yield from ReadBinding()
    if binding is None:
        met = yield from MeetProvider()
        if isinstance(met, CouldNotAsk):
            _refuse_credential(met)
            raise ProviderUnavailable(
                f"the provider could not be asked whose key this is: {met.reason}. Nothing was written or sent."
            )
        account = _account(gateway, met)
        binding = yield from Bind(Binding(gateway.provider, gateway.mode, account, setup.namespace))
    ours = (gateway.provider, gateway.mode, setup.namespace)
    if ours != (binding.provider, binding.mode, binding.namespace):
        raise ConfigurationError(
            f"this store belongs to {binding.provider}, {binding.mode} mode, namespace {binding.namespace!r}; asked with "
            f"{gateway.provider}, {gateway.mode} mode, namespace {setup.namespace!r}. Nothing was sent."
        )
    if gateway.declared_account not in (None, binding.account):
        raise ConfigurationError(
            f"this store belongs to account {binding.account}, PAYCLI_STRIPE_ACCOUNT says {gateway.declared_account}. "
            "Nothing was sent."
        )
    return binding


def _draft(gateway: Gateway, binding: Binding, intent: PaymentIntent, attempt: int) -> Draft:
    key = binding.key("charge", intent.intent_id, attempt)
    return Draft(key, gateway.charge_body(intent, binding, attempt, key), gateway.api_version)


# One charge ---------------------------------------------------------------------------------------------------------


def _advance(setup: Setup, binding: Binding, charge: Charge) -> Flow[_Finished]:
    """What resume does with one pending row before the shared look-up (the table of DESIGN §6)."""
    if charge.state is State.PREPARED:
        now = yield from Now()
        if now - charge.created_at >= setup.gateway.profile.unsent_life:
            return _Finished(charge)  # stale: a person charges it again or cancels it
        if charge.created_at < setup.started_at:
            return _Finished(charge, Next.LOOK_UP_THEN_SEND)
    return (yield from _finish(setup, binding, charge))


def _finish(setup: Setup, binding: Binding, charge: Charge, *, looked_up: bool = False) -> Flow[_Finished]:
    """Send until something is proven, the gate holds it, or this call's limits are used up."""
    gateway, policy = setup.gateway, setup.policy
    tries, sends, waited_s = 0, 0, 0.0
    while True:
        unasked = yield from _meet(setup, binding)
        if unasked is not None:
            return _Finished(charge, unasked=unasked)
        step = yield from BeginSend(
            charge.intent_id, charge.attempt, binding, gateway.profile, gateway.credential_id, looked_up
        )
        if isinstance(step, Held):
            if step.next is Next.RETRIEVE:
                return (yield from _retrieve(setup, step.charge))
            return _Finished(step.charge, step.next)
        answer = yield from _send(setup, step)
        charge = yield from _settle(setup, step.charge, answer, step.send_no)
        outcome = answer.outcome
        if isinstance(outcome, NotExecuted) and outcome.cause is Cause.CREDENTIAL:
            raise ConfigurationError(f"{outcome.reason}: check STRIPE_API_KEY. {charge.intent_id} is {charge.state}.")
        tries += 1
        sends += not isinstance(outcome, InFlight)
        if charge.final or not isinstance(outcome, NotExecuted | InFlight | Unknown):
            return _Finished(charge)
        if answer.should_retry is False and isinstance(outcome, Unknown):
            return _Finished(charge, Next.LOOK_UP)  # "a retry changes nothing" is not "not charged"
        pause_s = policy.delay_s(tries, answer.retry_after_s)
        used_up = waited_s >= policy.in_flight_s_max if isinstance(outcome, InFlight) else sends >= policy.sends_max
        if used_up or pause_s is None:
            down = answer.status is None or answer.status in (502, 503, 504)
            return _Finished(charge, unasked=getattr(outcome, "reason", None) if down else None)
        waited_s += yield from Wait(pause_s)


def _send(setup: Setup, begun: Begun) -> Flow[Answer]:
    request = setup.gateway.charge_request(begun.body, begun.charge.idempotency_key, begun.api_version)
    reply = yield from Send(request, begun)
    return setup.gateway.read_charge(reply, begun.charge)


def _settle(setup: Setup, charge: Charge, answer: Answer, send_no: int | None = None) -> Flow[Charge]:
    saves = setup.gateway.profile.saves_declines
    return (yield from Settle(charge.intent_id, charge.attempt, answer, saves, send_no))


def _retrieve(setup: Setup, charge: Charge) -> Flow[_Finished]:
    """A charge whose intent the provider has: never a send, a replay would only repeat the first answer."""
    gateway = setup.gateway
    answer = yield from _question(
        setup, gateway.retrieve_request(charge.provider_intent_id or ""), lambda reply: gateway.read_intent(reply, charge)
    )
    if isinstance(answer, CouldNotAsk):
        return _Finished(charge, unasked=answer.reason)
    return _Finished((yield from _settle(setup, charge, answer)))


def _withdraw(setup: Setup, binding: Binding, charge: Charge) -> Flow[None]:
    """Cancel a refused attempt's intent at the provider, so that it can never charge beside the next attempt."""
    answer = yield from _cancel_there(setup, binding, charge)
    yield from _settle(setup, charge, answer)
    if isinstance(answer.outcome, Canceled):
        return
    attempt = f"{charge.intent_id} attempt {charge.attempt}"
    if isinstance(answer.outcome, Succeeded):
        raise NeedsPerson(
            f"{attempt} is {charge.state} here, but the provider says it succeeded "
            f"({answer.outcome.provider_charge_id}): the customer has paid. No new attempt was made; a finding is open."
        )
    raise ProviderUnavailable(
        f"{attempt} could not be cancelled at the provider ({answer.name}); no new attempt was made. Try again later."
    )


def _cancel_there(setup: Setup, binding: Binding, charge: Charge) -> Flow[Answer]:
    """Cancel the provider's intent of a charge; what the provider says of it afterwards."""
    gateway = setup.gateway
    unasked = yield from _meet(setup, binding)
    if unasked is None:
        intent, key = charge.provider_intent_id or "", binding.key("cancel", charge.intent_id, charge.attempt)
        # A saved 500 of the cancellation would be replayed for ever: then the intent itself is asked.
        for request in (gateway.cancel_request(intent, key), gateway.retrieve_request(intent)):
            answer = yield from _question(setup, request, lambda reply: gateway.read_intent(reply, charge))
            if not isinstance(answer, CouldNotAsk):
                return answer
            unasked = answer.reason
    raise ProviderUnavailable(
        f"{charge.intent_id}: the provider could not be asked to cancel {charge.provider_intent_id}: {unasked}. "
        "Nothing changed; run the same command again."
    )


# Looking up ---------------------------------------------------------------------------------------------------------


def _look_up_all(setup: Setup, binding: Binding, waiting: list[_Finished]) -> Flow[tuple[list[Charge], str | None]]:
    """One scan for all that wait; those that only had to be looked up first are sent, and looked up again if held."""
    results: list[Charge] = []
    unasked: str | None = None
    while waiting:
        again: list[_Finished] = []
        found, scan = yield from _look_up(setup, [done.charge for done in waiting])
        unasked = scan.why_incomplete or unasked
        for done, charge in zip(waiting, found, strict=True):
            if done.next is Next.LOOK_UP_THEN_SEND and _may_send_after(scan, charge):
                sent = yield from _finish(setup, binding, charge, looked_up=True)
                unasked = sent.unasked or unasked
                if sent.next is Next.LOOK_UP:
                    again.append(sent)
                    continue
                charge = sent.charge
            results.append(charge)
        waiting = again
    return results, unasked


def _may_send_after(scan: Scan, charge: Charge) -> bool:
    return not charge.final and scan.why_incomplete is None and charge.idempotency_key not in scan.found


def _look_up(setup: Setup, charges: list[Charge]) -> Flow[tuple[list[Charge], Scan]]:
    """Read the provider's lists once for all `charges`: what is found is settled, what is proven absent as well."""
    profile = setup.gateway.profile
    now = yield from Now()
    earliest = min(charge.first_sent_at or charge.created_at for charge in charges)
    created_from = earliest - profile.created_before_first_send
    wanted = {charge.idempotency_key: charge for charge in charges}
    evidence: dict[str, Answer] = {}
    strangers: set[tuple[int, str]] = set()
    why_incomplete: str | None = None
    for path in setup.gateway.lists:
        if len(evidence) < len(wanted):
            why = yield from _read_list(setup, path, created_from, now + LOOK_UP_AHEAD, wanted, evidence, strangers)
            why_incomplete = why_incomplete or why
    scan = Scan(created_from, now, why_incomplete, frozenset(evidence), frozenset(strangers))
    results: list[Charge] = []
    for charge in charges:
        answer = evidence.get(charge.idempotency_key)
        if answer is not None:
            results.append((yield from _settle(setup, charge, answer)))
        elif charge.last_sent_at is not None:
            results.append((yield from ProveAbsent(charge.intent_id, charge.attempt, profile, scan)))
        else:
            results.append(charge)
    return results, scan


def _read_list(
    setup: Setup,
    path: str,
    created_from: datetime,
    created_to: datetime,
    wanted: dict[str, Charge],
    evidence: dict[str, Answer],
    strangers: set[tuple[int, str]],
) -> Flow[str | None]:
    """Page through one list into `evidence` and `strangers`; why it was not read to its end, or None."""
    gateway = setup.gateway
    after: str | None = None
    for _ in range(gateway.profile.lookup_pages_max):
        request = gateway.list_request(path, created_from, created_to, after)
        page = yield from _question(setup, request, lambda reply: gateway.read_page(path, reply, wanted))
        if isinstance(page, CouldNotAsk):
            return page.reason
        for item in page.items:
            if item.key is None:
                strangers.add((item.amount, item.currency))
            elif item.key not in evidence or item.moved:
                evidence[item.key] = item.answer  # of several objects with one key, a success counts
        if not page.has_more or len(evidence) == len(wanted):
            return None
        if page.last_id in (None, after):
            return "the provider's list does not advance"
        after = page.last_id
    return f"more than {gateway.profile.lookup_pages_max} pages; the nightly run reads further"


# Asking -------------------------------------------------------------------------------------------------------------


def _question(
    setup: Setup, request: Request, read: Callable[[Reply | NoReply], R | CouldNotAsk]
) -> Flow[R | CouldNotAsk]:
    """Ask, a few times if nobody answers; a refused credential ends everything."""
    tries = 0
    while True:
        result = read((yield from Ask(request)))
        tries += 1
        if not isinstance(result, CouldNotAsk):
            return result
        _refuse_credential(result)
        passing = result.status is None or result.status in (409, 429) or result.status >= 500
        pause_s = setup.policy.delay_s(tries, result.retry_after_s)
        if not passing or pause_s is None or tries >= ASKS_MAX:
            return result
        yield from Wait(pause_s)


def _meet(setup: Setup, binding: Binding) -> Flow[str | None]:
    """Make sure that the credential is of the store's account; why that could not be asked, or None."""
    met = yield from MeetProvider()
    if isinstance(met, CouldNotAsk):
        _refuse_credential(met)
        return met.reason
    account = _account(setup.gateway, met)
    if account != binding.account:
        raise ConfigurationError(
            f"STRIPE_API_KEY is of account {account}, this store belongs to {binding.account}. Nothing was sent."
        )
    return None


def _account(gateway: Gateway, met: Account) -> str:
    declared = gateway.declared_account
    if met.account is None and declared is None:
        raise ConfigurationError(
            "this restricted key may not read its own account (HTTP 403): set PAYCLI_STRIPE_ACCOUNT=acct_…. "
            "Nothing was sent."
        )
    if None not in (met.account, declared) and met.account != declared:
        raise ConfigurationError(
            f"STRIPE_API_KEY is of account {met.account}, PAYCLI_STRIPE_ACCOUNT says {declared}. Nothing was sent."
        )
    return met.account or declared or ""


def _refuse_credential(result: CouldNotAsk) -> None:
    if result.credential:
        raise ConfigurationError(f"{result.reason}: check STRIPE_API_KEY. No charge was sent.")
