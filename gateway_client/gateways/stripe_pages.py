"""The objects of one page of a Stripe list, read one by one where the page cannot be read as a whole. Pure.

An object that is not in Stripe's form takes none of those beside it along. Whose it is, is told by its metadata alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from gateway_client.gateways.base import Listing, Page, Plain, Reply, Unreadable
from gateway_client.gateways.stripe_objects import (
    ChargeList,
    ChargeObject,
    IntentList,
    IntentObject,
    answered,
    charge_item,
    claims_of,
    class_of,
    could_not_ask,
    decode,
    decode_text,
    intent_item,
    moment,
    plain_charge,
    plain_intent,
    usable_id,
)
from gateway_client.outcome import CouldNotAsk
from gateway_client.proof import Item

P = TypeVar("P", Page, Listing)


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


def read_list(
    reply: Reply, path: str, after: str | None, rows_max: int, made_of: Callable[..., P], *, of_intents: bool
) -> P | CouldNotAsk:
    """Read a page, made of its objects, its last id, the reply, and whether there is more; or say why it is none."""
    page = decode_list(reply, of_intents=of_intents)
    if page is None or page.kind != "list" or page.url != path:
        return could_not_ask(reply)
    if len(page.data) > rows_max:
        return CouldNotAsk(f"the page holds more than the {rows_max} objects that were asked for", class_of(reply))
    kind = "payment_intent" if of_intents else "charge"
    objects = objects_of(page, of_intents=of_intents)
    if any(isinstance(found.kind, str) and found.kind != kind for found in objects):
        return could_not_ask(reply)
    last_id = id_of_object(objects[-1]) if objects else None
    if objects and page.has_more and last_id is None:
        reason = "the last object of the page has no usable id: nothing can be asked for after it"
        return CouldNotAsk(reason, class_of(reply))
    return made_of(objects, last_id, reply, Place(path.rpartition("/")[2], after), has_more=page.has_more)


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
    found = tuple(in_our_words(objects, place, number) for number in range(len(objects)))
    items = tuple(one for one in found if isinstance(one, Item))
    unreadable = tuple(one for one in found if isinstance(one, Unreadable))
    oldest, _ = _times(objects)
    return Page(items, answered(reply), last_id, has_more, oldest, len(reply.body), unreadable)


def listing_of(objects: Sequence[Found], last_id: str | None, reply: Reply, place: Place, *, has_more: bool) -> Listing:
    """Return the page of these objects by places; only what is plain is looked at."""
    oldest, newest = _times(objects)
    return Listing(
        count=len(objects),
        plain={number: plain for number, found in enumerate(objects) if (plain := _plain(found)) is not None},
        in_our_words=partial(in_our_words, objects, place),
        last_id=last_id,
        has_more=has_more,
        oldest=oldest,
        newest=newest,
        size=len(reply.body),
    )


def _plain(found: Found) -> Plain | None:
    if isinstance(found, IntentObject):
        return plain_intent(found)
    return plain_charge(found) if isinstance(found, ChargeObject) else None


def _times(objects: Sequence[Found]) -> tuple[datetime | None, datetime | None]:
    """Return when the oldest and the newest of these objects were made, of those that tell it."""
    told = [found.created for found in objects if type(found.created) is int]
    times = [at for at in (moment(min(told)), moment(max(told))) if at is not None] if told else []
    if len(times) < 2 and told:  # one of them is no time at all
        times = [at for created in told if (at := moment(created)) is not None]
    return min(times, default=None), max(times, default=None)


def in_our_words(objects: Sequence[Found], place: Place, number: int) -> Item | Unreadable:
    """One object of a page; one without a usable id, which nobody could ask for, is unreadable as well."""
    found = objects[number]
    name = id_of_object(found)
    if name is None:
        return _unreadable(found, _name(objects, place, number))
    if isinstance(found, IntentObject):
        return intent_item(found)
    if isinstance(found, ChargeObject):
        return charge_item(found)
    return _unreadable(found, name)


def _name(objects: Sequence[Found], place: Place, number: int) -> str:
    """Name an object without a usable id by where it stands: after which other one, as which of several."""
    for nameless in range(1, number + 1):
        before = id_of_object(objects[number - nameless])
        if before is not None:
            return place._replace(after=before).name(nameless)
    return place.name(number + 1)


def id_of_object(found: Found) -> str | None:
    """The id of an object, when it can be asked for and shown."""
    return usable_id(found.id) if isinstance(found.id, str) else None


def _unreadable(found: Found, name: str) -> Unreadable:
    # Every object of Stripe's has metadata: without them it was not read as far as our names.
    told = isinstance(found.metadata, dict)
    named, namespace, intent_id, attempt, key = claims_of(found.metadata if isinstance(found.metadata, dict) else {})
    created = found.created if type(found.created) is int else None
    return Unreadable(name, moment(created), named or not told, namespace, intent_id, attempt, key)
