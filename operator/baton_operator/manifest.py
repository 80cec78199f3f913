"""Kubernetes objects as plain values: how to write their type, and how to look into one.

Knows mappings and lists; knows no kind and no field of any. What is absent, or not of the kind that
was asked for, reads as empty: objects come from a server that may be newer than we are.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
Manifest: TypeAlias = Mapping[str, Json]


def mapping_at(value: Json, *path: str) -> Manifest:
    found = _at(value, path)
    return found if isinstance(found, Mapping) else {}


def list_at(value: Json, *path: str) -> Sequence[Json]:
    found = _at(value, path)
    return found if isinstance(found, Sequence) and not isinstance(found, str) else ()


def text_at(value: Json, *path: str) -> str:
    found = _at(value, path)
    return found if isinstance(found, str) else ""


def int_at(value: Json, *path: str) -> int | None:
    found = _at(value, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def flag_at(value: Json, *path: str) -> bool:
    return _at(value, path) is True


def is_empty(value: Json) -> bool:
    """Whether the API server may leave the value out of what it stores: null, zero, empty."""
    return value is None or value is False or value == 0 or value in ("", {}, [], ())


def _at(value: Json, path: Sequence[str]) -> Json:
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
