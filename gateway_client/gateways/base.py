"""What the flow needs of a provider: rules, requests out, answers in. No I/O. Another one is this protocol anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from gateway_client.bounds import Bounds
from gateway_client.charge import Charge
from gateway_client.errors import NotOffered
from gateway_client.frozen import Frozen
from gateway_client.intent import PaymentIntent, idempotency_key
from gateway_client.operation import Upon
from gateway_client.outcome import Answer, CouldNotAsk, ReplyClass
from gateway_client.proof import Expected, Item, Kind, Shown
from gateway_client.state import CHARGE, State


@dataclass(frozen=True, slots=True)
class Profile:
    """A provider's rules about idempotency and time, as data: other providers differ in every line."""

    bounds: Bounds  # the published fault model, from which every length is derived
    server_errors_max: int  # 500s recorded for an attempt before it is looked up instead of sent again
    saves_declines: bool  # a decline is replayed to every send of the key
    unsent_life: timedelta  # a charge never sent that is older is left to a person


@dataclass(frozen=True, slots=True)
class Lists:
    """A provider that shows what it has by time: these lists together hold every object a charge can have left behind.

    The only strategy so far. What can only be asked for by its id, or is only told by the provider (an inbox), will be
    a class beside this one, and `Gateway.evidence` one of them.
    """

    paths: tuple[str, ...]  # intents come first


@dataclass(frozen=True, slots=True)
class Binding:
    """Whom a store belongs to, and which one it is. Keys are computed from it, so it never changes while rows exist."""

    provider: str
    mode: str  # "test" or "live"
    account: str
    namespace: str
    store_id: str = ""  # drawn by chance when it is bound: another store of the same account is another one

    @property
    def live(self) -> bool:
        """True when real money moves."""
        return self.mode == "live"

    def key(self, operation: str, intent_id: str, attempt: int) -> str:
        """The idempotency key of one operation on one attempt: the same in any store, for rows may be lost."""
        return idempotency_key(
            provider=self.provider,
            mode=self.mode,
            account=self.account,
            namespace=self.namespace,
            operation=operation,
            intent_id=intent_id,
            attempt=attempt,
        )

    def computes(self, found: Item | Unreadable) -> bool:
        """Whether what an object claims is, in full, what a service of this account writes; a name alone is edited."""
        if found.namespace is None or found.intent_id is None or found.attempt is None:
            return False
        return found.key == replace(self, namespace=found.namespace).key(CHARGE, found.intent_id, found.attempt)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, without the credential: the driver adds the gateway's headers when it sends."""

    method: str
    path: str  # with its query
    body: str | None = field(default=None, repr=False)
    idempotency_key: str | None = field(default=None, repr=False)
    api_version: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer as it came: nothing is believed yet. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class NoReply:
    """No usable answer. `sent` is False only when our own socket took not one byte of the request."""

    sent: bool
    reason: str
    elapsed_ms: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """The provider's word on whose credential this is."""

    account: str


AMOUNT_MAX = 2**53  # no amount reaches it (Stripe's have at most 12 digits), and every database can hold it


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One object of a page that is not in the provider's form: counted and named, and no evidence of anything."""

    object_id: str  # the provider's; where it stands in its list, when that is unusable
    created_at: datetime | None
    named: bool  # it carries our names, or cannot be read as far as them; the next four are what it claims
    namespace: str | None
    intent_id: str | None
    attempt: int | None
    key: str | None

    def may_be_of(self, binding: Binding) -> bool:
        """False when it carries no name of ours, or, in full, those of another service of the account."""
        return self.named and (self.namespace == binding.namespace or not binding.computes(self))


@dataclass(frozen=True, slots=True)
class Missing:
    """The provider says, in its own words, that there is no such object."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a provider's list, newest first."""

    items: tuple[Item, ...]
    answer: Answer  # what support will ask for; its outcome says nothing
    last_id: str | None
    has_more: bool
    read_back_to: datetime | None = None  # `created` of its oldest object
    size: int = 0  # bytes, as it came
    unreadable: tuple[Unreadable, ...] = ()  # what else it holds; `last_id` and `read_back_to` are of these, too

    def answers(self, created_from: datetime, created_to: datetime) -> bool:
        """False when it holds what was not asked for: then it is the answer to another question."""
        second = timedelta(seconds=1)  # `created` is in whole seconds, and so were the bounds
        found: tuple[Item | Unreadable, ...] = (*self.items, *self.unreadable)
        times = (one.created_at for one in found if one.created_at is not None)
        return all(created_from - second <= at <= created_to + second for at in times)


class Stated(NamedTuple):
    """State all that is judged of a listed object, or of a row of ours. Where both are equal, there is nothing to say.

    `state` is what the object proves by itself for a row of exactly these numbers, ids and key.
    """

    namespace: str
    live: bool
    intent_id: str
    attempt: int
    key: str
    state: State
    amount: int
    currency: str
    provider_intent_id: str
    provider_charge_id: str


class Plain(NamedTuple):
    """Name a listed object that may agree with a row, and what it states: it succeeded, or was declined."""

    object_id: str
    kind: Kind
    stated: Stated

    def item(self) -> Item:
        """Return the object in our words, as far as it is judged: an object that agrees holds nothing else."""
        stated, intent = self.stated, self.kind is Kind.INTENT
        succeeded = stated.state is State.SUCCEEDED
        refused = Shown.DECLINED if intent else Shown.FAILED_TRY
        shows = Shown.SUCCEEDED if succeeded else refused
        return Item(
            object_id=self.object_id,
            kind=self.kind,
            created_at=None,
            shows=shows,
            status=shows,
            amount=stated.amount,
            amount_received=stated.amount if intent and succeeded else None,
            currency=stated.currency,
            live=stated.live,
            reason=None,
            provider_intent_id=stated.provider_intent_id,
            provider_charge_id=stated.provider_charge_id,
            customer=None,
            payment_method=None,
            named=True,
            namespace=stated.namespace,
            intent_id=stated.intent_id,
            attempt=stated.attempt,
            key=stated.key,
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """Hold one page of a list by places, newest first: most objects are only compared, and never put into our words."""

    count: int
    plain: Mapping[int, Plain]  # by place: what may agree with a row
    in_our_words: Callable[[int], Item | Unreadable]  # of any place
    last_id: str | None
    has_more: bool
    oldest: datetime | None  # `created` of the oldest and of the newest object that tells it
    newest: datetime | None
    size: int  # bytes, as it came

    @property
    def read_back_to(self) -> datetime | None:
        """Return how far back in time the page reaches."""
        return self.oldest

    def within(self, start: datetime, beyond: datetime) -> bool:
        """Return whether no object tells a time outside of start <= created < beyond."""
        return self.oldest is None or self.newest is None or (start <= self.oldest and self.newest < beyond)

    def answers(self, created_from: datetime, created_to: datetime) -> bool:
        """Return False when the page holds what was not asked for: then it is the answer to another question."""
        second = timedelta(seconds=1)  # as of `Page`
        return self.within(created_from - second, created_to + second + timedelta(microseconds=1))


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Evidence of one attempt by one question, whose complete answer shows it or proves that it is not there."""

    request: Callable[[Charge], Request]
    read: Callable[[Reply | NoReply, Expected], Answer | Missing | CouldNotAsk]


@dataclass(frozen=True, slots=True)
class Offered:
    """An operation as a gateway offers it: how its attempts are requested, read and looked up."""

    request: Callable[[Charge, str, str], Request]  # of an attempt, its body and its API version
    read: Callable[[Reply | NoReply, Expected], Answer]  # the answer to one send of an attempt
    altered: Callable[[Frozen, Binding], str | None]  # what of a stored body is not as its row says; None: all is
    body: Callable[[Upon, Charge, str], str] | None = None  # of an act upon a charge, under a key
    retrieval: Retrieval | None = None  # None: it is looked up in the gateway's lists


def offered(gateway: Gateway, operation: str) -> Offered:
    """How a gateway offers an operation. Raises NotOffered, before anything is written."""
    found = gateway.operations.get(operation)
    if found is None:
        raise NotOffered(f"{gateway.provider} does not offer: {operation}. Nothing was written or sent.")
    return found


class Gateway(Protocol):
    """A provider: its rules, its requests, and how its replies are read."""

    @property
    def provider(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def declared_account(self) -> str | None: ...
    @property
    def credential_id(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def api_version(self) -> str: ...
    @property
    def profile(self) -> Profile: ...
    @property
    def evidence(self) -> Lists:
        """How to find what the provider has of a charge whose answer did not come."""
        ...

    def classify(self, reply: Reply | NoReply) -> ReplyClass:
        """What kind of reply this is, whatever it proves."""
        ...

    @property
    def operations(self) -> Mapping[str, Offered]:
        """What it can do, by name; what is missing is not offered."""
        ...

    def headers(self, request: Request) -> dict[str, str]: ...
    def read_time(self, request: Request, reply: Reply) -> datetime | None:
        """The provider's time, when the reply is in its form and answers this request now; else None."""
        ...

    def account_request(self) -> Request: ...
    def read_account(self, reply: Reply | NoReply) -> Account | CouldNotAsk: ...
    def check_parameters(self, intent: PaymentIntent) -> None:
        """Raise InvalidInput, which names the first of the intent's `parameters` that is not passed on, and why."""
        ...

    def charge_body(self, intent: PaymentIntent, binding: Binding, attempt: int, key: str) -> str: ...
    def retrieve_request(self, provider_intent_id: str) -> Request: ...
    def cancel_request(self, provider_intent_id: str) -> Request:
        """Cancel an intent: afterwards the provider makes no charge by it. Its answer proves nothing: ask then."""
        ...

    def read_intent(self, reply: Reply | NoReply, expected: Expected) -> Answer | CouldNotAsk:
        """What the intent that is known of a charge, asked for by its id, proves for it."""
        ...

    def list_request(self, path: str, created_from: datetime, created_to: datetime, after: str | None) -> Request: ...
    def read_page(self, path: str, reply: Reply | NoReply, after: str | None = None) -> Page | CouldNotAsk:
        """The page of a list that was asked for `after` an object; what has no usable id is named by its place."""
        ...

    def read_listing(self, path: str, reply: Reply | NoReply, after: str | None = None) -> Listing | CouldNotAsk:
        """Read a page as `read_page` does; its objects are put into our words when they are asked for."""
        ...

    def retrieve_charge_request(self, provider_charge_id: str) -> Request: ...
    def read_item(self, reply: Reply | NoReply) -> Item | Missing | CouldNotAsk:
        """The charge we asked for by its id. Missing only when the provider says so."""
        ...
