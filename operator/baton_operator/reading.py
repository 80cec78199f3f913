"""From a custom resource's dict to its typed spec: every problem at once. Pure.

Follows the declarations (`declare`); knows no field of any resource. What the API server has
admitted reads without problems; this is for what it admitted under an older schema, and for tests.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from baton.common.errors import InvalidSpec

from baton_operator.collectors import CollectorUrl
from baton_operator.declare import Limits, Opaque, camel, is_required, limits_of, rules_of
from baton_operator.manifest import Json
from baton_operator.quantities import Duration, Memory
from baton_operator.sources import ModelSource

KindT = TypeVar("KindT")

WRITTEN_AS_TEXT = (Duration, Memory, ModelSource, CollectorUrl)
SHOWN_CHARS_MAX = 60  # of a wrong value, in a problem


def read(kind: type[KindT], value: Json, *, path: str) -> KindT:
    """`value` as a `kind`. Raises InvalidSpec with every problem, each with its path."""
    reader = _Reader()
    found = reader.read(kind, Limits(""), value, path)
    if reader.problems:
        raise InvalidSpec(reader.problems)
    return typing.cast(KindT, found)


@cache  # one entry for each declared class; a status is read at every tick of its service
def _hints_of(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


class _Reader:
    """One reading; collects problems. What could not be read is None and checked no further."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, hint: Any, limits: Limits, value: Json, path: str) -> object:
        if typing.get_origin(hint) in (typing.Union, types.UnionType):  # X | None
            (hint,) = [one for one in typing.get_args(hint) if one is not type(None)]
        if hint in WRITTEN_AS_TEXT:
            return self._written(hint, value, path)
        if hint is Opaque:
            if isinstance(value, Mapping):
                return Opaque(value)
            self._not("an object", path)
            return None
        if dataclasses.is_dataclass(hint):
            return self._object(typing.cast(type, hint), value, path)
        if typing.get_origin(hint) is tuple:
            return self._list(typing.get_args(hint)[0], limits, value, path)
        if typing.get_origin(hint) is Mapping:
            return self._map(limits, value, path)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self._choice(hint, value, path)
        return self._scalar(hint, limits, value, path)

    def _object(self, kind: type, value: Json, path: str) -> object:
        if not isinstance(value, Mapping):
            self._not("an object", path)
            return None
        fields = dataclasses.fields(kind)
        hints = _hints_of(kind)
        known = {camel(one.name) for one in fields}
        self.problems.extend(
            f"{path}.{name[:SHOWN_CHARS_MAX]}: there is no such field"
            for name in value
            if name not in known
        )
        before, values = len(self.problems), {}
        for one in fields:
            name = camel(one.name)
            if value.get(name) is not None:
                hint = hints[one.name]
                values[one.name] = self.read(hint, limits_of(one), value[name], f"{path}.{name}")
            elif is_required(one):
                self.problems.append(f"{path}.{name}: is required")
        if len(self.problems) > before:
            return None  # rules over fields that could not be read would only confuse
        made = kind(**values)
        broken = [rule for rule in rules_of(kind) if not rule.holds(made)]
        self.problems.extend(f"{path}: {rule.message}" for rule in broken)
        return made

    def _list(self, hint: Any, limits: Limits, value: Json, path: str) -> object:
        if not isinstance(value, Sequence) or isinstance(value, str):
            self._not("a list", path)
            return None
        self._within(len(value), limits.items_max, "items", path)
        found = tuple(
            self.read(hint, limits, item, f"{path}[{index}]") for index, item in enumerate(value)
        )
        if limits.list_key is not None:
            keys = [item.get(limits.list_key) for item in value if isinstance(item, Mapping)]
            doubled = sorted({str(key) for key in keys if keys.count(key) > 1})
            self.problems.extend(
                f"{path}: two items have the {limits.list_key} {key!r:.{SHOWN_CHARS_MAX}}"
                for key in doubled
            )
        return found

    def _map(self, limits: Limits, value: Json, path: str) -> object:
        if not isinstance(value, Mapping):
            self._not("a map", path)
            return None
        self._within(len(value), limits.items_max, "entries", path)
        for key, item in value.items():
            if not isinstance(item, str | int) or isinstance(item, bool):
                self._not("text", f"{path}.{key}")
            else:
                self._within(len(str(item)), limits.value_chars_max, "characters", f"{path}.{key}")
        return {key: str(item) for key, item in value.items()}

    def _choice(self, kind: type[Enum], value: Json, path: str) -> object:
        choices = [str(member.value) for member in kind]
        if value not in choices:
            self._not(f"one of {', '.join(choices)}", path)
            return None
        return kind(value)

    def _scalar(self, hint: Any, limits: Limits, value: Json, path: str) -> object:
        if hint is bool:
            if isinstance(value, bool):
                return value
            self._not("true or false", path)
            return None
        if hint is int:
            if not isinstance(value, int) or isinstance(value, bool):
                self._not("a whole number", path)
                return None
            if limits.at_least is not None and value < limits.at_least:
                self.problems.append(f"{path}: must be at least {limits.at_least}")
            if limits.at_most is not None and value > limits.at_most:
                self.problems.append(f"{path}: must be at most {limits.at_most}")
            return value
        if not isinstance(value, str):
            self._not("text", path)
            return None
        self._within(len(value), limits.chars_max, "characters", path)
        if limits.matches is not None and not re.fullmatch(limits.matches[0], value, re.ASCII):
            self.problems.append(f"{path}: {limits.matches[1]}")
        return value

    def _written(self, kind: type, value: Json, path: str) -> object:
        if not isinstance(value, str):
            self._not("text", path)
            return None
        try:
            return kind(value)
        except ValueError as error:
            self.problems.append(f"{path}: {error}")
            return None

    def _within(self, count: int, limit: int | None, noun: str, path: str) -> None:
        if limit is not None and count > limit:
            self.problems.append(f"{path}: has {count} {noun} (at most {limit})")

    def _not(self, expected: str, path: str) -> None:
        self.problems.append(f"{path}: must be {expected}")
