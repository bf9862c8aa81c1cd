"""What each account has: its ledger, its idempotency keys, and the endpoints over them.

Which account a request is of is decided by its API key (`credentials.py`).
"""

from gateway_client.sandbox.behaviour import Behaviour
from gateway_client.sandbox.clock import Agenda
from gateway_client.sandbox.intents import Intents
from gateway_client.sandbox.keys import Keys
from gateway_client.sandbox.provider import Provider


class AccountBooks:
    """One account's."""

    def __init__(self, account_id: str, seed: int | str, agenda: Agenda, behaviour: Behaviour) -> None:
        self.account_id = account_id
        self.keys = Keys(behaviour)
        self.ledger = Intents(seed, agenda, behaviour)
        self.provider = Provider(account_id, self.ledger, behaviour)


class Books:
    """Every account's. Not thread-safe: its owner holds a lock."""

    def __init__(self, account_id: str, seed: int, agenda: Agenda, behaviour: Behaviour) -> None:
        self._seed, self._agenda, self._behaviour = seed, agenda, behaviour
        self.own = AccountBooks(account_id, seed, agenda, behaviour)
        """The sandbox's own account's."""
        self.others: dict[str, AccountBooks] = {}
        """By account, those of other accounts that were asked with a key of theirs."""

    def of(self, account_id: str) -> AccountBooks:
        """An account's; made when it is first asked for, with ids of its own."""
        if account_id == self.own.account_id:
            return self.own
        if account_id not in self.others:
            seed = f"{self._seed} {account_id}"
            self.others[account_id] = AccountBooks(account_id, seed, self._agenda, self._behaviour)
        return self.others[account_id]
