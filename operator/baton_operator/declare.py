"""How a field of the custom resource is declared: one line says meaning, limits and default.

The reader (`reading`) and the schema (`schema`) both follow these declarations, so what the API
server admits and what the operator understands are the same thing. Knows no field of any resource.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from baton_operator.manifest import Json


@dataclass(frozen=True, slots=True)
class Limits:
    """What a field may hold. Every string, list and map has a bound: CEL budgets its rules by
    them, and an object of unbounded size is a way to hurt the API server."""

    help: str
    chars_max: int | None = None
    matches: tuple[str, str] | None = None  # RE2 pattern, and what to write instead
    at_least: int | None = None
    at_most: int | None = None
    items_max: int | None = None  # of a list or a map
    value_chars_max: int | None = None  # of a map's values
    list_key: str | None = None  # a list of objects, told apart by this field of theirs
    constant: bool = False  # never changes after creation


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields: for the API server in CEL, and for us."""

    cel: str
    message: str  # what to write instead
    holds: Callable[[Any], bool] = field(compare=False)


def declared(
    help_text: str,
    *,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    **limits: Any,
) -> Any:
    """A field of the custom resource; without a default it must be given."""
    given = Limits(help_text, **limits)
    if default_factory is not dataclasses.MISSING:
        return field(default_factory=default_factory, metadata={"limits": given})
    return field(default=default, metadata={"limits": given})


def limits_of(one: dataclasses.Field[Any]) -> Limits:
    found = one.metadata["limits"]
    assert isinstance(found, Limits)
    return found


def rules_of(kind: type) -> tuple[Rule, ...]:
    found: tuple[Rule, ...] = getattr(kind, "RULES", ())
    return found


def is_required(one: dataclasses.Field[Any]) -> bool:
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


@cache  # of names in declared classes only
def camel(name: str) -> str:
    """A Python name as Kubernetes writes it: `min_replicas` is minReplicas."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object of a Kubernetes type that we hand on as it is."""

    value: Json
