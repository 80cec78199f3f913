"""From declared dataclasses to a custom resource's dict: what `reading` reads. Pure.

What was not said is left out: a None, and inside of lists and maps also what is empty.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from baton_operator.collectors import CollectorUrl
from baton_operator.declare import Opaque, camel
from baton_operator.manifest import Json
from baton_operator.quantities import Duration, Memory
from baton_operator.sources import ModelSource


def written(value: Any) -> dict[str, Json]:
    """The fields of a declared dataclass under their Kubernetes names."""
    fields = {camel(one.name): getattr(value, one.name) for one in dataclasses.fields(value)}
    return {name: _json(item) for name, item in fields.items() if item is not None}


def _json(value: Any) -> Json:
    if isinstance(value, Opaque):
        return value.value
    if isinstance(value, Duration | Memory | ModelSource | CollectorUrl):
        return value.text
    if isinstance(value, Enum):
        return str(value.value)
    if dataclasses.is_dataclass(value):
        return {name: item for name, item in written(value).items() if item not in ({}, [])}
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_json(item) for item in value]
    assert value is None or isinstance(value, str | int | float)
    return value
