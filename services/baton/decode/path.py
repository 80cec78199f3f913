"""Where a prompt is computed, and why there: the rules decode itself decides by. Pure.

The router names candidates or none; what only decode knows (its own cache, what became of the
hand-off) is decided here.
"""

from collections.abc import Sequence
from enum import Enum


class PrefillPath(Enum):
    """`remote`, or `local:` and the reason. The label of `baton_decode_prefill_total`."""

    REMOTE = "remote"
    NO_PREFILL = "local:no_prefill"  # the router named no candidate
    SHORT = "local:short"  # a block or less: a hand-off costs more than it saves
    CACHED = "local:cached"  # a block or less is missing from the cache here
    PROMPT_LOGPROBS = "local:prompt_logprobs"  # every prompt position is scored: compute them all
    PREFILL_FAILED = "local:prefill_failed"  # no candidate delivered everything


def path_before_reserving(
    candidates: Sequence[str], *, prompt_logprobs: bool, tokens: int, block_size: int
) -> PrefillPath | None:
    """The local path a new request must take; None: ask for remote blocks."""
    if not candidates:
        return PrefillPath.NO_PREFILL
    if prompt_logprobs:
        return PrefillPath.PROMPT_LOGPROBS
    return PrefillPath.SHORT if tokens <= block_size else None


def path_once_reserved(*, tokens: int, held_blocks: int, block_size: int) -> PrefillPath | None:
    """CACHED when what is missing fits a block; None: fetch it."""
    return PrefillPath.CACHED if tokens - held_blocks * block_size <= block_size else None
