"""The objects of one page of a Stripe list, read one by one where the page cannot be read as a whole. Pure.

An object that is not in Stripe's form takes none of those beside it along. Whose it is, is told by its metadata alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from gateway_client.gateways.base import Item, Page, Reply, Unreadable
from gateway_client.gateways.stripe_objects import (
    ChargeList,
    ChargeObject,
    IntentList,
    IntentObject,
    answered,
    charge_item,
    claims_of,
    decode,
    decode_text,
    intent_item,
    moment,
    usable_id,
)


class Shell(msgspec.Struct):
    """What of any object tells which one it is, of when, and whose; nothing of it has the type that it should have."""

    id: object = None
    kind: object = msgspec.field(default=None, name="object")
    created: object = None
    metadata: object = None


class RawList(msgspec.Struct):
    """A list whose objects are not read yet."""

    data: list[msgspec.Raw]
    has_more: bool
    kind: str | None = msgspec.field(default=None, name="object")
    url: str | None = None


Found: TypeAlias = IntentObject | ChargeObject | Shell


def decode_list(reply: Reply, *, of_intents: bool) -> IntentList | ChargeList | RawList | None:
    """A list, as a whole or with its objects left raw; None when it is none."""
    whole = decode(reply, IntentList) if of_intents else decode(reply, ChargeList)
    return whole or decode(reply, RawList)


def objects_of(page: IntentList | ChargeList | RawList, *, of_intents: bool) -> Sequence[Found]:
    """Its objects; of one that is not in Stripe's form only its shell."""
    if not isinstance(page, RawList):
        return page.data
    form: type[IntentObject] | type[ChargeObject] = IntentObject if of_intents else ChargeObject
    return [decode_text(raw, form) or decode_text(raw, Shell) or Shell() for raw in page.data]


class Place(NamedTuple):
    """Where a page stands: in which list, and after which object (None: it is the first)."""

    kind: str
    after: str | None

    def name(self, number: int) -> str:
        """Name an object without an id, so that no other one of any page has that name."""
        return f"no_id_{number}_of_{self.kind}{'' if self.after is None else f'_after_{self.after}'}"


def page_of(objects: Sequence[Found], last_id: str | None, reply: Reply, place: Place, *, has_more: bool) -> Page:
    """The page of these objects, in our words."""
    found = tuple(_in_our_words(objects, place))
    items = tuple(one for one in found if isinstance(one, Item))
    unreadable = tuple(one for one in found if isinstance(one, Unreadable))
    oldest = min((one.created_at for one in found if one.created_at is not None), default=None)
    return Page(items, answered(reply), last_id, has_more, oldest, len(reply.body), unreadable)


def _in_our_words(objects: Sequence[Found], place: Place) -> Iterator[Item | Unreadable]:
    """Each object; one without a usable id, which nobody could ask for, is unreadable as well."""
    nameless = 0
    for found in objects:
        name = id_of_object(found)
        if name is None:
            nameless += 1
            yield _unreadable(found, place.name(nameless))
            continue
        place, nameless = place._replace(after=name), 0
        if isinstance(found, IntentObject):
            yield intent_item(found)
        elif isinstance(found, ChargeObject):
            yield charge_item(found)
        else:
            yield _unreadable(found, name)


def id_of_object(found: Found) -> str | None:
    """The id of an object, when it can be asked for and shown."""
    return usable_id(found.id) if isinstance(found.id, str) else None


def _unreadable(found: Found, name: str) -> Unreadable:
    # Every object of Stripe's has metadata: without them it was not read as far as our names.
    told = isinstance(found.metadata, dict)
    named, namespace, intent_id, attempt, key = claims_of(found.metadata if isinstance(found.metadata, dict) else {})
    created = found.created if isinstance(found.created, int) and not isinstance(found.created, bool) else None
    return Unreadable(name, moment(created), named or not told, namespace, intent_id, attempt, key)
