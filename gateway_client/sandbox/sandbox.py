"""`Sandbox`: the model behind one lock and one clock, with its ledger to look at and its doors to the outside.

What a request does is told in `model.py`; how it gets in, in `transport.py` and `server.py`.
"""

import json
import threading
import time as wall
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gateway_client.sandbox.behaviour import Behaviour
from gateway_client.sandbox.clock import SandboxClock
from gateway_client.sandbox.model import Exchange, Model
from gateway_client.sandbox.shelf import Shelf
from gateway_client.sandbox.wire import Answer, Json, Recorded, Request

if TYPE_CHECKING:
    import httpx

    from gateway_client.sandbox.server import SandboxServer


def _wall_time() -> float:
    return wall.time()  # looked up at each call, so that freezegun reaches it


def _copies(shelf: Shelf) -> tuple[Json, ...]:
    """Deep copies, newest first. By way of JSON, which is all they hold: several times faster than `deepcopy`."""
    return tuple(json.loads(json.dumps(list(shelf))))


class Sandbox(Behaviour):
    """A Stripe-style provider with a ledger, a clock and faults. Thread-safe.

    `seed` fixes every id and every fault drawn; `faults` are rates by name (see `FAULTS`) that apply to POST requests;
    `time` gives the seconds since 1970 that the clock starts from, by default this machine's.

    Lengths, echoes, the account's state and what a box answers are attributes (see `Behaviour`).

    `change` and `remove` do to the ledger what no request could, so that a reconciliation has something to find.
    """

    api_key = "sk_test_sandbox"
    """For convenience: every well-formed sk_test_… or rk_test_… key is accepted until it is revoked."""

    def __init__(
        self,
        *,
        seed: int = 0,
        faults: Mapping[str, float] | None = None,
        account: str = "acct_1SandboxCharge0nce",
        time: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._model = Model(seed=seed, faults=faults or {}, account=account, behaviour=self)
        self.account = account
        self.clock = SandboxClock(time or _wall_time, self._model.agenda, self._lock)

    # --- the ledger and what arrived

    @property
    def charges(self) -> tuple[Json, ...]:
        """Deep copies, newest first. Whatever became due on the clock has happened."""
        with self._lock:
            self._now()
            return _copies(self._model.ledger.charges)

    @property
    def payment_intents(self) -> tuple[Json, ...]:
        """Deep copies, newest first. Whatever became due on the clock has happened."""
        with self._lock:
            self._now()
            return _copies(self._model.ledger.intents)

    @property
    def elsewhere(self) -> dict[str, tuple[Json, ...]]:
        """The charges of other accounts, by account: what was asked with a key of `other_account_keys`.

        Deep copies, newest first. Whatever became due on the clock has happened.
        """
        with self._lock:
            self._now()
            return {account: _copies(books.ledger.charges) for account, books in self._model.books.others.items()}

    @property
    def requests(self) -> tuple[Recorded, ...]:
        """Every request that arrived, in order; a duplicate delivery arrives twice. Never an API key."""
        with self._lock:
            self._now()
            return tuple(self._model.recorded)

    def succeeded(self, label: str = "paycli_intent") -> Counter[str]:
        """How many charges succeeded, by the value of this metadata name; under "" those without it."""
        with self._lock:
            self._now()
            return Counter(
                charge["metadata"].get(label, "")
                for charge in self._model.ledger.charges
                if charge["status"] == "succeeded"
            )

    # --- hands on the ledger

    def change(self, object_id: str, **fields: Any) -> None:
        """Overwrites fields of a charge or payment intent, after whatever became due on the clock.

        Answers that were saved under a key stay. LookupError: no such id in the ledger. ValueError: no such field.
        """
        with self._lock:
            self._now()
            self._shelf(object_id).change(object_id, fields)

    def remove(self, object_id: str) -> None:
        """Takes a charge or payment intent out of the ledger; others that name it still do. LookupError: no such id."""
        with self._lock:
            self._now()
            self._shelf(object_id).remove(object_id)

    # --- what goes wrong

    @property
    def faults(self) -> dict[str, float]:
        """The rates, which may be replaced at any time. A copy: changing it changes nothing."""
        return dict(self._model.plan.rates)

    @faults.setter
    def faults(self, rates: Mapping[str, float]) -> None:
        with self._lock:
            self._model.plan.rates = rates

    def fault(self, name: str, *, times: int = 1, on: str = "POST /v1/payment_intents") -> None:
        """The next `times` requests whose "METHOD /path" matches the pattern `on` get this fault, before any rate.

        `name` is one of `FAULTS`, or some of different kinds joined: `error_500_later+page_200_html` is a saved 500,
        rolled forward later, and an error page with status 200 that arrives instead. ValueError: no such fault.
        """
        with self._lock:
            self._model.plan.script(name, times, on)

    def revoke(self, api_key: str) -> None:
        """From now on this key is answered with 401."""
        with self._lock:
            self._model.revoked.add(api_key)

    # --- how requests get in

    def begin(self, request: Request) -> Exchange:
        """A request arrives. Wait for its `wait_s`, holding no lock, then call `finish`."""
        with self._lock:
            return self._model.begin(request, self._now())

    def finish(self, exchange: Exchange) -> Answer:
        """What the request is answered."""
        with self._lock:
            return self._model.finish(exchange, self._now())

    def transport(self) -> "httpx.MockTransport":
        """For `httpx.Client(transport=…)`: in process, no socket."""
        from gateway_client.sandbox.transport import sync_transport

        return sync_transport(self)

    def async_transport(self) -> "httpx.MockTransport":
        """For `httpx.AsyncClient(transport=…)`: in process, no socket, never blocks the loop."""
        from gateway_client.sandbox.transport import async_transport

        return async_transport(self)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> "SandboxServer":
        """Listens on a loopback port, 0 for any free one, until the returned server is closed (or its `with` ends)."""
        from gateway_client.sandbox.server import SandboxServer

        return SandboxServer(self, host, port)

    def _shelf(self, object_id: str) -> Shelf:
        """Where a charge or payment intent is."""
        for shelf in (self._model.ledger.charges, self._model.ledger.intents):
            if shelf.get(object_id) is not None:
                return shelf
        raise LookupError(f"the ledger has no charge or payment intent {object_id!r}")

    def _now(self) -> float:
        """The clock's time, after everything that became due by then."""
        now = self.clock.now()
        self._model.agenda.run(now)
        return now
