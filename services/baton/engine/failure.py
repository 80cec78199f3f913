"""What a step that broke, or a row of it, says of itself, whatever computes it. Pure."""

from baton.common.errors import BatonError, EngineFailure, InvalidRequest

NOT_FINITE = "the model's logits are not finite"
NOTHING_LEFT = "the sampling parameters leave no token"
NOTHING_FITS = "no token that the sampling parameters leave continues the grammar"

FAILURE_CHARS_MAX = 200
"""Enough of an error to find its cause; some carry whole tensors."""


def step_failure(slices: int, cause: Exception) -> EngineFailure:
    """To be raised from `cause`; `slices`: of the step."""
    what = f"{type(cause).__name__}: {cause!s:.{FAILURE_CHARS_MAX}}"
    return EngineFailure(f"a step of {slices} slices failed: {what}")


def request_failure(words: str | None) -> BatonError:
    """What the engine's words for the end of one request mean to whoever asked."""
    if words in (NOTHING_LEFT, NOTHING_FITS):  # another worker would find none either
        return InvalidRequest(words)
    return EngineFailure(words or "the engine gave the request up")
