"""Questions to the provider: whose credential is this, does the store belong to it, and one question with its retries.

Flows only; nothing here sends a charge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from gateway_client.charge import Charge
from gateway_client.errors import ConfigurationError, ProviderUnavailable
from gateway_client.flow.effects import Ask, Bind, Flow, MeetProvider, ReadBinding, Wait
from gateway_client.frozen import Seal
from gateway_client.gateways.base import Account, Binding, Gateway, NoReply, Reply, Request
from gateway_client.outcome import CouldNotAsk
from gateway_client.proof import Expected
from gateway_client.retry import RetryPolicy

ASKS_MAX = 3  # tries of one question before it counts as "could not ask"

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Setup:
    """What every flow needs: gateway, namespace of this service, limits, when this process began, and its seal."""

    gateway: Gateway
    namespace: str
    policy: RetryPolicy
    started_at: datetime
    seal: Seal | None = None

    def expected(self, charge: Charge) -> Expected:
        """Return what the provider's object of a charge must say."""
        return Expected.of(charge, live=self.gateway.mode == "live")


def bind_flow(setup: Setup) -> Flow[Binding]:
    """Whom the store belongs to; an empty one is bound to the credential's account. Refuses any other credential."""
    gateway = setup.gateway
    binding = yield from ReadBinding()
    if binding is None:
        met = yield from MeetProvider()
        if isinstance(met, CouldNotAsk):
            refuse_credential(met)
            raise ProviderUnavailable(
                f"the provider could not be asked whose key this is: {met.reason}. Nothing was written or sent."
            )
        account = _account(gateway, met)
        binding = yield from Bind(Binding(gateway.provider, gateway.mode, account, setup.namespace))
    ours = (gateway.provider, gateway.mode, setup.namespace)
    if ours != (binding.provider, binding.mode, binding.namespace):
        raise ConfigurationError(
            f"this store belongs to {binding.provider}, {binding.mode} mode, namespace {binding.namespace!r}; asked "
            f"with {gateway.provider}, {gateway.mode} mode, namespace {setup.namespace!r}. Nothing was sent."
        )
    if gateway.declared_account not in (None, binding.account):
        raise ConfigurationError(
            f"this store belongs to account {binding.account}, PAYCLI_STRIPE_ACCOUNT says {gateway.declared_account}. "
            "Nothing was sent."
        )
    return binding


def meet(setup: Setup, binding: Binding, *, anew: bool = False) -> Flow[str | None]:
    """Make sure that the credential is of the store's account; why that could not be asked, or None.

    `anew`: ask now, so that the provider's time is known, too, whatever this machine's clocks did since.
    """
    met = yield from MeetProvider(anew)
    if isinstance(met, CouldNotAsk):
        refuse_credential(met)
        return met.reason
    account = _account(setup.gateway, met)
    if account != binding.account:
        raise ConfigurationError(
            f"STRIPE_API_KEY is of account {account}, this store belongs to {binding.account}. Nothing was sent."
        )
    return None


def question(
    setup: Setup, request: Request, read: Callable[[Reply | NoReply], R | CouldNotAsk], asks_max: int = ASKS_MAX
) -> Flow[R | CouldNotAsk]:
    """Ask, a few times if nobody answers; a refused credential ends everything."""
    tries = 0
    while True:
        result = read((yield from Ask(request)))
        tries += 1
        if not isinstance(result, CouldNotAsk):
            return result
        refuse_credential(result)
        pause = setup.policy.delay_s(tries, result.retry_after_s)
        if result.refused or pause is None or tries >= asks_max:
            return result
        yield from Wait(*pause)


def _account(gateway: Gateway, met: Account) -> str:
    """The account by the provider's word; what was declared is only compared with it."""
    declared = gateway.declared_account
    if declared not in (None, met.account):
        raise ConfigurationError(
            f"STRIPE_API_KEY is of account {met.account}, PAYCLI_STRIPE_ACCOUNT says {declared}. Connected accounts "
            "are not supported: use a key of the account itself. Nothing was sent."
        )
    return met.account


def refuse_credential(result: CouldNotAsk) -> None:
    """Raise ConfigurationError when the provider has refused the credential."""
    if result.credential:
        raise ConfigurationError(f"{result.reason}. Nothing more was sent.")
