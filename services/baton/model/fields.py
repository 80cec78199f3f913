"""Typed reading of what a model file claims: each wrong or missing field is one ModelFileError.

Knows names and types; knows nothing of what the fields mean.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from baton.common.errors import ModelFileError

T = TypeVar("T")

NATURAL_MAX = 2**31 - 1  # sizes, counts and token ids beyond this are corruption


class Fields:
    """A view of a mapping that came out of the file `file_name`. A null counts as absent."""

    def __init__(self, file_name: str, values: Mapping[str, object], prefix: str = "") -> None:
        self.file_name = file_name
        self._values = values
        self._prefix = prefix  # GGUF keys begin with the architecture

    def has(self, key: str) -> bool:
        return self._get(key) is not None

    def nulled(self, key: str) -> bool:
        """Whether the key is there with an explicit null."""
        return self._prefix + key in self._values and self._get(key) is None

    def natural(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1. GGUF may say it once per layer: then all must agree."""
        value = self._get(key)
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if value is None:
            return self._default(key, default)
        if type(value) is not int or not 1 <= value <= NATURAL_MAX:
            raise self.wrong(key, "a positive whole number")
        return value

    def index(self, key: str) -> int | None:
        """A whole number of at least 0, or None where absent."""
        value = self._get(key)
        if value is not None and (type(value) is not int or not 0 <= value <= NATURAL_MAX):
            raise self.wrong(key, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self._get(key)
        if value is None:
            return self._default(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        try:
            number = float(value)
        except OverflowError as error:
            raise self.wrong(key, "a finite number") from error
        if not math.isfinite(number) or number <= 0:
            raise self.wrong(key, "a positive number")
        return number

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str) -> str | None:
        """A string, or None where absent."""
        value = self._get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None where absent."""
        values = self._list(key)
        if values is None:
            return None
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "a list of strings")
        return tuple(value for value in values if isinstance(value, str))

    def whole_numbers(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers, or None where absent."""
        values = self._list(key)
        if values is None:
            return None
        found = tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool))
        if len(found) != len(values):
            raise self.wrong(key, "a list of whole numbers")
        return found

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """A list of numbers, none of them NaN, or None where absent."""
        values = self._list(key)
        if values is None:
            return None
        found = tuple(v for v in values if isinstance(v, int | float) and not math.isnan(v))
        if len(found) != len(values):
            raise self.wrong(key, "a list of numbers")
        return found

    def indexes(self, key: str) -> tuple[int, ...]:
        """A whole number of at least 0 or a list of them; empty where absent."""
        if isinstance(self._get(key), list):
            found = self.whole_numbers(key) or ()
            if any(not 0 <= value <= NATURAL_MAX for value in found):
                raise self.wrong(key, "a list of whole numbers")
            return found
        value = self.index(key)
        return () if value is None else (value,)

    def text_or_content(self, key: str) -> str | None:
        """A string, or the `content` of an object (how tokenizer files write tokens)."""
        if isinstance(self._get(key), dict):
            inner = self.inner(key)
            return None if inner is None else inner.text("content")
        return self.text(key)

    def named_text(self, key: str, name: str) -> str | None:
        """A string, or the `template` of that name out of a list of named templates."""
        if not isinstance(self._get(key), list):
            return self.text(key)
        named = [inner for inner in self.objects(key) if inner.text("name") == name]
        return named[0].text("template") if named else None

    def objects(self, key: str) -> tuple["Fields", ...]:
        """A list of objects; empty where absent."""
        values = self._list(key) or ()
        if not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, "a list of objects")
        return tuple(Fields(self.file_name, v) for v in values if isinstance(v, dict))

    def inner(self, key: str) -> "Fields | None":
        """An object inside this one, or None where absent or empty."""
        value = self._get(key)
        if value is None or value == {}:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(self.file_name, value)

    def wrong(self, key: str, wanted: str) -> ModelFileError:
        return ModelFileError(f"{self.file_name}: {self._prefix}{key} is not {wanted}")

    def unsupported(self, what: str, supported: str) -> ModelFileError:
        return ModelFileError(f"{self.file_name}: {what} is not supported (supported: {supported})")

    def _get(self, key: str) -> object:
        return self._values.get(self._prefix + key)

    def _list(self, key: str) -> Sequence[object] | None:
        value = self._get(key)
        if value is not None and not isinstance(value, list | tuple):
            raise self.wrong(key, "a list")
        return value

    def _default(self, key: str, default: T | None) -> T:
        if default is None:
            raise ModelFileError(f"{self.file_name}: {self._prefix}{key} is missing")
        return default
