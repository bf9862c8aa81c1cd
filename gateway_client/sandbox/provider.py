"""The endpoints: which method and path does what, with reading, listing and expanding.

The life of a payment intent is in `intents.py`; who may ask, faults and idempotency are in `sandbox.py`.
"""

from collections.abc import Callable
from typing import TypeAlias

from gateway_client.sandbox import objects
from gateway_client.sandbox.behaviour import Behaviour
from gateway_client.sandbox.form import Form, Tree
from gateway_client.sandbox.intents import Intents, Step
from gateway_client.sandbox.parameters import (
    CANCEL_PARAMETERS,
    CONFIRM_PARAMETERS,
    CONFIRM_PARAMETERS_ABSENT,
    CREATE_PARAMETERS,
    CREATE_PARAMETERS_ABSENT,
)
from gateway_client.sandbox.refusal import forbidden, invalid, missing_object, unknown_url
from gateway_client.sandbox.shelf import LIST_PARAMETERS, Shelf
from gateway_client.sandbox.wire import Json

Operation: TypeAlias = Callable[[Tree], Step]
"""Checks the parameters and prepares; raises a `Refusal` and leaves no trace when they are wrong."""

EXPANDABLE = {"payment_intent": "latest_charge", "charge": "payment_intent"}


class Provider:
    """One account's endpoints over one ledger."""

    def __init__(self, account_id: str, ledger: Intents, behaviour: Behaviour) -> None:
        self._account = objects.account(account_id)
        self._ledger = ledger
        self._behaviour = behaviour

    def operation(self, method: str, path: str, *, restricted: bool) -> Operation:  # noqa: PLR0911 - a table
        """The operation of one request line. `restricted` says that the API key is a restricted one."""
        match method, path.split("/")[1:]:
            case "POST", ["v1", "payment_intents"]:
                return self._create
            case "POST", ["v1", "payment_intents", intent_id, "confirm"]:
                return lambda tree: self._confirm(intent_id, tree)
            case "POST", ["v1", "payment_intents", intent_id, "cancel"]:
                return lambda tree: self._cancel(intent_id, tree)
            case "GET", ["v1", "payment_intents"]:
                return lambda tree: self._list(self._ledger.intents, tree, ())
            case "GET", ["v1", "payment_intents", intent_id] if intent_id:
                return lambda tree: self._retrieve(self._ledger.intents, intent_id, "intent", tree)
            case "GET", ["v1", "charges"]:
                return lambda tree: self._list(self._ledger.charges, tree, ("payment_intent",))
            case "GET", ["v1", "charges", charge_id] if charge_id:
                return lambda tree: self._retrieve(self._ledger.charges, charge_id, "charge", tree)
            case "GET", ["v1", "account"]:
                return lambda tree: self._read_account(tree, restricted=restricted)
        raise unknown_url(method, path)

    def _create(self, tree: Tree) -> Step:
        form = Form(tree, known=CREATE_PARAMETERS, absent=CREATE_PARAMETERS_ABSENT)
        return self._expanded("payment_intent", form, self._ledger.create(form))

    def _confirm(self, intent_id: str, tree: Tree) -> Step:
        form = Form(tree, known=CONFIRM_PARAMETERS, absent=CONFIRM_PARAMETERS_ABSENT)
        return self._expanded("payment_intent", form, self._ledger.confirm(intent_id, form))

    def _cancel(self, intent_id: str, tree: Tree) -> Step:
        form = Form(tree, known=CANCEL_PARAMETERS)
        return self._expanded("payment_intent", form, self._ledger.cancel(intent_id, form))

    def _retrieve(self, shelf: Shelf, object_id: str, param: str, tree: Tree) -> Step:
        form = Form(tree, known=("expand",), absent=("client_secret",))
        found = shelf.get(object_id)
        if found is None:
            raise missing_object(shelf.kind, object_id, param=param, status=404)
        return self._expanded(shelf.kind, form, lambda origin, now: found)

    def _list(self, shelf: Shelf, tree: Tree, filters: tuple[str, ...]) -> Step:
        form = Form(tree, known=(*LIST_PARAMETERS, *filters), absent=("customer_account", "transfer_group"))
        given = {field: form.text(field) for field in ("customer", *filters)}
        expands = _expands(form, shelf.kind, "data.")
        data, has_more = shelf.page(form, {field: value for field, value in given.items() if value is not None})
        if expands:
            data = [self._expand(item) for item in data]
        page: Json = {"object": "list", "data": data, "has_more": has_more, "url": f"/v1/{shelf.kind}s"}
        return lambda origin, now: page

    def _read_account(self, tree: Tree, *, restricted: bool) -> Step:
        Form(tree, known=("expand",))
        if restricted:
            named = self._account["id"] if self._behaviour.names_account else None
            raise forbidden("rak_accounts_kyc_basic_read", named)
        return lambda origin, now: self._account

    def _expanded(self, kind: str, form: Form, step: Step) -> Step:
        """The step, with its answer expanded if the request asks for it."""
        return (lambda origin, now: self._expand(step(origin, now))) if _expands(form, kind) else step

    def _expand(self, item: Json) -> Json:
        field = EXPANDABLE[item["object"]]
        shelf = self._ledger.charges if item["object"] == "payment_intent" else self._ledger.intents
        return item if item[field] is None else {**item, field: shelf.get(item[field]) or item[field]}


def _expands(form: Form, kind: str, prefix: str = "") -> bool:
    """Whether the request asks for the one field of this kind that can be expanded here; anything else is refused."""
    wanted, expandable = form.strings("expand"), prefix + EXPANDABLE[kind]
    for path in wanted:
        if path != expandable:
            raise invalid(f"This property cannot be expanded ({path}).", param="expand")
    return bool(wanted)
