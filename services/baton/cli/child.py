"""A supervised process as a value, and how its end reads. Pure: starts nothing."""

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep alive. `command[0]` is an executable; `name` is for people."""

    name: str
    command: tuple[str, ...]
    ends_first: bool = False  # others are told to end once it has: it still needs them


def described_exit(exit_code: int) -> str:
    """`exit code 1`, or the signal's name for the negative codes of a killed process."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"
