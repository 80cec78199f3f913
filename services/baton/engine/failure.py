"""What a step that broke says of itself, whatever computes it. Pure."""

from baton.common.errors import EngineFailure

FAILURE_CHARS_MAX = 200
"""Enough of an error to find its cause; some carry whole tensors."""


def step_failure(slices: int, cause: Exception) -> EngineFailure:
    """To be raised from `cause`; `slices`: of the step."""
    what = f"{type(cause).__name__}: {cause!s:.{FAILURE_CHARS_MAX}}"
    return EngineFailure(f"a step of {slices} slices failed: {what}")
