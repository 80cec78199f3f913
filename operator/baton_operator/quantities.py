"""Durations ("500ms") and quantities ("2Gi") as Kubernetes people write them. Pure."""

import re
from dataclasses import dataclass
from fractions import Fraction

DURATION_PATTERN = r"^[1-9][0-9]{0,5}(ms|s|m|h)$"
DURATION_MESSAGE = "write a duration as a whole number and one unit, such as 500ms, 30s or 10m"
MEMORY_PATTERN = r"^[1-9][0-9]{0,6}(Mi|Gi|Ti)$"
MEMORY_MESSAGE = "write memory as a whole number and one unit, such as 512Mi or 2Gi"

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_UNIT_BYTES = {"Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

# Kubernetes' resource.Quantity: decimal and binary suffixes, or an exponent.
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30}))"
    r"(?P<suffix>n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d{1,2})?",
    re.ASCII,
)
_SUFFIXES = {
    **{name: Fraction(10) ** power for name, power in {"n": -9, "u": -6, "m": -3}.items()},
    **{name: Fraction(1_000) ** (1 + index) for index, name in enumerate("kMGTPE")},
    **{f"{name}i": Fraction(1_024) ** (1 + index) for index, name in enumerate("KMGTPE")},
}


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time; `text` is how it was written."""

    text: str

    def __post_init__(self) -> None:
        """Raises ValueError for what is not a duration."""
        if re.fullmatch(DURATION_PATTERN, self.text) is None:
            raise ValueError(DURATION_MESSAGE)

    @property
    def seconds(self) -> float:
        number = self.text.rstrip("msh")
        return int(number) * _UNIT_MS[self.text.removeprefix(number)] / 1_000


@dataclass(frozen=True, slots=True)
class Memory:
    """An amount of memory in whole MiB or larger; `text` is how it was written."""

    text: str

    def __post_init__(self) -> None:
        """Raises ValueError for what is not an amount of memory."""
        if re.fullmatch(MEMORY_PATTERN, self.text) is None:
            raise ValueError(MEMORY_MESSAGE)

    @property
    def mebibytes(self) -> int:
        return int(self.text[:-2]) * _UNIT_BYTES[self.text[-2:]] >> 20


def quantity(value: object) -> Fraction | None:
    """The number that a Kubernetes quantity stands for ("250m", 2, "1Gi"); None: it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    suffix = match["suffix"]
    if suffix is not None and suffix[0] in "eE" and len(suffix) > 1 and suffix[1:] != "i":
        scale = Fraction(10) ** int(suffix[1:])
    else:
        scale = _SUFFIXES[suffix] if suffix is not None else Fraction(1)
    number = match["number"]
    return Fraction(number + "0" if number.endswith(".") else number) * scale
