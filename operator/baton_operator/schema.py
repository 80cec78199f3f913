"""From declared dataclasses to a structural OpenAPI schema with CEL rules. Pure.

Follows the declarations (`declare`), as the reader does; knows no field of any resource.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from baton_operator.collectors import (
    COLLECTOR_CHARS_MAX,
    COLLECTOR_MESSAGE,
    COLLECTOR_PATTERN,
    CollectorUrl,
)
from baton_operator.declare import Limits, Opaque, Rule, camel, is_required, limits_of, rules_of
from baton_operator.manifest import Json
from baton_operator.quantities import (
    DURATION_MESSAGE,
    DURATION_PATTERN,
    MEMORY_MESSAGE,
    MEMORY_PATTERN,
    Duration,
    Memory,
)
from baton_operator.sources import SOURCE_CHARS_MAX, SOURCE_MESSAGE, SOURCE_PATTERN, ModelSource

VALIDATIONS = "x-kubernetes-validations"
Node = dict[str, Json]

# A message of ours says what to write instead, so these are rules: a bare `pattern` would only
# quote itself.
_TEXTS: Final[Mapping[object, tuple[int, str, str]]] = {
    Duration: (8, DURATION_PATTERN, DURATION_MESSAGE),
    Memory: (9, MEMORY_PATTERN, MEMORY_MESSAGE),
    ModelSource: (SOURCE_CHARS_MAX, SOURCE_PATTERN, SOURCE_MESSAGE),
    CollectorUrl: (COLLECTOR_CHARS_MAX, COLLECTOR_PATTERN, COLLECTOR_MESSAGE),
}


def object_schema(kind: type) -> Node:
    """The schema of a declared dataclass."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(typing.cast(Any, kind))
    node: Node = {
        "type": "object",
        "properties": {camel(one.name): _field_schema(one, hints[one.name]) for one in fields},
    }
    required = [camel(one.name) for one in fields if is_required(one)]
    if required:
        node["required"] = required
    if rules := rules_of(kind):
        node[VALIDATIONS] = [rule_schema(rule) for rule in rules]
    return node


def rule_schema(rule: Rule) -> Node:
    return {"rule": rule.cel, "message": rule.message}


def _field_schema(one: dataclasses.Field[Any], hint: Any) -> Node:
    limits = limits_of(one)
    node: Node = {"description": limits.help, **_schema(hint, limits)}
    if limits.constant:
        rules = typing.cast(list[Json], list(typing.cast(Any, node.get(VALIDATIONS, []))))
        message = "cannot change: create another ModelService and delete this one"
        node[VALIDATIONS] = [*rules, {"rule": "self == oldSelf", "message": message}]
    if (default := _default(one)) is not None:
        node["default"] = default
    return node


def _default(one: dataclasses.Field[Any]) -> Json:
    """What the API server fills in. Objects are filled in so that rules may look into them."""
    if isinstance(one.default, Enum):
        return str(one.default.value)
    if isinstance(one.default, bool | int | str):
        return one.default
    if one.default_factory is not dataclasses.MISSING and dataclasses.is_dataclass(
        one.default_factory
    ):
        return {}
    return None


def _schema(hint: Any, limits: Limits) -> Node:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):  # X | None
        (hint,) = [one for one in typing.get_args(hint) if one is not type(None)]
    if hint in _TEXTS:
        chars_max, pattern, message = _TEXTS[hint]
        return _text(chars_max, (pattern, message))
    if hint is Opaque:
        return _opaque(limits)
    if dataclasses.is_dataclass(hint):
        return object_schema(typing.cast(type, hint))
    if typing.get_origin(hint) is tuple:
        return _list(typing.get_args(hint)[0], limits)
    if typing.get_origin(hint) is Mapping:
        return _map(limits)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"type": "string", "enum": [str(member.value) for member in hint]}
    if hint is bool:
        return {"type": "boolean"}
    return _integer(limits) if hint is int else _text(limits.chars_max, limits.matches)


def _text(chars_max: int | None, matches: tuple[str, str] | None) -> Node:
    assert chars_max is not None, "every text has a bound"
    node: Node = {"type": "string", "maxLength": chars_max}
    if matches is not None:
        # CEL strings take Python's escapes; a pattern in them is written raw.
        pattern, message = matches
        node[VALIDATIONS] = [{"rule": f"self.matches(r'{pattern}')", "message": message}]
    return node


def _integer(limits: Limits) -> Node:
    node: Node = {"type": "integer", "format": "int64"}
    if limits.at_least is not None:
        node["minimum"] = limits.at_least
    if limits.at_most is not None:
        node["maximum"] = limits.at_most
    return node


def _list(hint: Any, limits: Limits) -> Node:
    assert limits.items_max is not None, "every list has a bound"
    node: Node = {"type": "array", "maxItems": limits.items_max, "items": _schema(hint, limits)}
    if limits.list_key is None:
        return {**node, "x-kubernetes-list-type": "atomic"}
    keys: Node = {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [limits.list_key],
    }
    return {**node, **keys}


def _map(limits: Limits) -> Node:
    assert limits.items_max is not None, "every map has a bound"
    assert limits.value_chars_max is not None, "every text has a bound"
    value: Node = {
        "x-kubernetes-int-or-string": True,  # people write cpu: 2 without quotes
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": limits.value_chars_max,
    }
    return {"type": "object", "maxProperties": limits.items_max, "additionalProperties": value}


def _opaque(limits: Limits) -> Node:
    node: Node = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if limits.list_key is None:
        return node
    key: Node = {limits.list_key: {"type": "string", "maxLength": 63}}  # a name within a pod
    return {**node, "properties": key, "required": [limits.list_key]}
