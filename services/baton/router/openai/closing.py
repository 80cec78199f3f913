"""JSON schemas without room for what they do not list.

JSON Schema leaves an object open to any other property, and a model that may add some does. Whoever
lists properties means those; so does every answer that follows the closed schema follow the open
one. Pure; knows no grammars.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_NAMED = ("properties", "patternProperties", "$defs", "definitions")  # schemas by name
_ONE = ("items", "additionalProperties", "contains")
_SEVERAL = ("prefixItems", "anyOf", "oneOf")

_OPENING = {"additionalProperties", "patternProperties"}
"""Say themselves what else there may be."""

_SHARING = {"properties", "anyOf", "oneOf", "$ref"}
"""Two of them in one schema speak of the same object, and what one lists the other does not."""

_ENTANGLING = {
    *("allOf", "not", "if", "dependentSchemas", "$dynamicRef"),
    "unevaluatedProperties",
}


def closed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, closed wherever it lists properties; as it is where parts of it speak of the same
    object."""
    return schema if _entangled(schema) else _closed(schema)


def _entangled(schema: Mapping[str, Any]) -> bool:
    keywords = schema.keys()
    if keywords & _ENTANGLING or len(keywords & _SHARING) > 1:
        return True
    return any(_entangled(part) for part in _parts(schema))


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas in a schema."""
    found: list[Any] = [schema.get(keyword) for keyword in _ONE]
    for keyword in _NAMED:
        named = schema.get(keyword)
        found.extend(named.values() if isinstance(named, dict) else ())
    for keyword in _SEVERAL:
        several = schema.get(keyword)
        found.extend(several if isinstance(several, list) else ())
    return (part for part in found if isinstance(part, dict))


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    inner = {keyword: _closed_part(keyword, part) for keyword, part in schema.items()}
    if _lists_all(inner) and not inner.keys() & _OPENING:
        inner["additionalProperties"] = False
    return inner


def _lists_all(schema: Mapping[str, Any]) -> bool:
    """Whether it lists properties, and those it requires among them."""
    listed, required = schema.get("properties"), schema.get("required", ())
    if not isinstance(listed, dict) or not isinstance(required, list | tuple):
        return False
    return all(isinstance(name, str) and name in listed for name in required)


def _closed_part(keyword: str, part: Any) -> Any:
    if keyword in _NAMED and isinstance(part, dict):
        return {name: _closed(schema) for name, schema in part.items()}
    if keyword in _SEVERAL and isinstance(part, list):
        return [_closed(schema) for schema in part]
    return _closed(part) if keyword in _ONE else part
