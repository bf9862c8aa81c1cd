"""Reading a form-encoded request as strictly as Stripe does: brackets, types, unknown names, limits.

What the parameters mean is not known here.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias
from urllib.parse import parse_qsl

from gateway_client.sandbox.refusal import Refusal, absent_here, invalid

Pairs: TypeAlias = tuple[tuple[str, str], ...]
Tree: TypeAlias = dict[str, "str | Tree"]

FIELDS_MAX = 500
"""More than any Stripe request has; a bound, so that a broken client cannot make us work for ever."""

DEPTH_MAX = 6
METADATA_KEYS_MAX = 50
METADATA_NAME_CHARACTERS_MAX = 40
METADATA_VALUE_CHARACTERS_MAX = 500
INTEGER_PATTERN = re.compile(r"-?[0-9]{1,15}")
NAME_PATTERN = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def parse(query: str, body: bytes) -> Pairs | None:
    """All parameters in the order they were sent, those of the query first; None when they are no form."""
    try:
        sent = "&".join(part for part in (query, body.decode("ascii")) if part)
        return tuple(parse_qsl(sent, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX))
    except ValueError:
        return None


def nest(pairs: Pairs) -> Tree:
    """`a[b]=c` becomes `{"a": {"b": "c"}}`; `a[]` counts from 0, so that it equals `a[0]`. The last of two wins."""
    tree: Tree = {}
    for name, value in pairs:
        match = NAME_PATTERN.fullmatch(name)
        if match is None or name.count("[") > DEPTH_MAX:
            raise _unknown(name)
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        branch = tree
        for step in path[:-1]:
            below = branch.setdefault(step or str(len(branch)), {})
            if isinstance(below, str):
                raise invalid(f"Invalid object: {name} is both a value and a list of values", param=path[0])
            branch = below
        branch[path[-1] or str(len(branch))] = value
    return tree


def fingerprint(method: str, path: str, tree: Tree) -> str:
    """Equal for two requests that ask for the same: the order of the parameters does not count."""
    return f"{method} {path} {json.dumps(tree, sort_keys=True)}"


class Form:
    """The parameters of one request. Every reader raises a `Refusal` that names the parameter."""

    def __init__(
        self, tree: Tree, *, known: Iterable[str], absent: Iterable[str] = (), within: str | None = None
    ) -> None:
        """`known` may be given; `absent` are Stripe's, and not the sandbox's; anything else is unknown.

        `within` is the name of the parameter whose fields these are.
        """
        self.tree = tree
        self._within = within
        allowed, elsewhere = set(known), set(absent)
        for name in tree:
            if name in elsewhere:
                raise absent_here(name)
            if name not in allowed:
                raise _unknown(self._label(name))

    def __contains__(self, name: str) -> bool:
        return name in self.tree

    def text(self, name: str, *, characters_max: int = 5000) -> str | None:
        """A string that is not empty, or None when it was not given."""
        value = self.tree.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise invalid(f"Invalid string: {json.dumps(value)}", param=self._label(name))
        if value == "":
            label = self._label(name)
            raise invalid(
                f"You passed an empty string for '{label}'. We assume empty values are an attempt to unset a field; "
                f"however '{label}' cannot be unset. You should remove '{label}' from your request or supply a "
                "non-empty value.",
                param=label,
                code="parameter_invalid_empty",
            )
        if len(value) > characters_max:
            raise invalid(
                f"Invalid string: {value[:10]}...; must be at most {characters_max} characters",
                param=self._label(name),
                code="parameter_invalid_string_too_long" if characters_max == 5000 else None,
            )
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise invalid(
                f"Missing required param: {self._label(name)}.", param=self._label(name), code="parameter_missing"
            )
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            raise invalid(f"Invalid {self._label(name)}: must be one of {', '.join(choices)}", param=self._label(name))
        return value

    def boolean(self, name: str) -> bool:
        """False when it was not given."""
        value = self.text(name)
        if value not in (None, "true", "false"):
            raise invalid(f"Invalid boolean: {value}", param=self._label(name))
        return value == "true"

    def integer(self, name: str, *, least: int, most: int | None = None) -> int | None:
        value = self.text(name)
        return None if value is None else _integer(value, name, least=least, most=most)

    def strings(self, name: str) -> tuple[str, ...]:
        """A list: `name[]=…` or `name[0]=…`."""
        branch = self.tree.get(name, {})
        if isinstance(branch, str):
            raise invalid("Invalid array", param=name)
        return tuple(value for value in branch.values() if isinstance(value, str))

    def branch(self, name: str, *, known: Iterable[str]) -> "Form | None":
        """An object: `name[field]=…`."""
        branch = self.tree.get(name)
        if branch is None:
            return None
        if isinstance(branch, str):
            raise invalid("Invalid object", param=name)
        return Form(branch, known=known, within=name)

    def _label(self, name: str) -> str:
        return name if self._within is None else f"{self._within}[{name}]"

    def integers(self, name: str, fields: tuple[str, ...]) -> Mapping[str, int]:
        """Either one number, under the name "", or one for each of some fields, as `created` has."""
        branch = self.tree.get(name, {})
        if isinstance(branch, str):
            return {"": _integer(branch, name)}
        numbers = {}
        for field, value in branch.items():
            if field not in fields:
                raise _unknown(f"{name}[{field}]")
            numbers[field] = _integer(value if isinstance(value, str) else "", f"{name}[{field}]")
        return numbers

    def metadata(self) -> dict[str, str]:
        """Strings by name, within Stripe's limits; an empty value unsets its name."""
        branch = self.tree.get("metadata", {})
        if branch == "":
            return {}
        if isinstance(branch, str):
            raise invalid("Invalid object", param="metadata")
        metadata = {}
        for name, value in branch.items():
            if not isinstance(value, str):
                raise invalid(f"Metadata values must be strings, but '{name}' is not.", param=f"metadata[{name}]")
            _within("keys", "key", name, METADATA_NAME_CHARACTERS_MAX)
            _within("values", "value", value, METADATA_VALUE_CHARACTERS_MAX)
            if value:
                metadata[name] = value
        if len(metadata) > METADATA_KEYS_MAX:
            raise invalid(
                f"Metadata can have up to {METADATA_KEYS_MAX} keys, but you passed {len(metadata)}.", param="metadata"
            )
        return metadata


def _integer(value: str, name: str, *, least: int | None = None, most: int | None = None) -> int:
    if not INTEGER_PATTERN.fullmatch(value):
        raise invalid(f"Invalid integer: {value[:40]}", param=name, code="parameter_invalid_integer")
    number = int(value)
    for wrong, bound, words in (
        (least is not None and number < least, least, "greater"),
        (most is not None and number > most, most, "less"),
    ):
        if wrong:
            raise invalid(
                f"This value must be {words} than or equal to {bound} (it currently is '{number}').",
                param=name,
                code="parameter_invalid_integer",
            )
    return number


def _unknown(name: str) -> Refusal:
    return invalid(f"Received unknown parameter: {name[:100]}", param=name[:100], code="parameter_unknown")


def _within(kinds: str, kind: str, text: str, characters_max: int) -> None:
    if len(text) > characters_max:
        raise invalid(
            f"Metadata {kinds} can have up to {characters_max} characters, but you passed in a {kind} that is "
            f"{len(text)} characters. Invalid {kind}: {text[:60]}",
            param="metadata",
        )
