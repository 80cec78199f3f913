"""Which decode worker runs a request and which prefill workers it may ask: filter, score, pick.

Pure: an immutable picture of the fleet and a request's needs go in, a decision with its reason
comes out. Knows no streams, no clock and no randomness; whose turn it is comes in as a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

PREFILL_CANDIDATES_MAX = 3
"""Enough for the failure ladder: after three refusals a local prefill is the faster way out."""


class Role(Enum):
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Layout:
    """Two workers may exchange KV only when all of this is equal."""

    model_revision: str
    layers: int
    kv_heads: int
    head_size: int
    block_size: int
    dtype: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker as it last described itself."""

    address: str  # "host:port"
    role: Role
    incarnation: int  # another number is another process, even at the same address
    ready: bool
    model_name: str
    layout: Layout
    context_length_max: int  # tokens of prompt + output


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that can be heard right now."""

    workers: tuple[WorkerView, ...] = ()

    def ready(self, role: Role) -> tuple[WorkerView, ...]:
        return tuple(view for view in self.workers if view.ready and view.role is role)


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks of a decode worker."""

    tokens: int  # prompt + output, at most
    prompt_logprobs: bool = False
    # (address, incarnation) of workers this request has already failed on
    avoid: frozenset[tuple[str, int]] = frozenset()


class Reason(Enum):
    """Where the prompt will be computed, and why there."""

    REMOTE = "remote"
    NO_PREFILL = "no_prefill"  # no ready prefill worker
    LAYOUT = (
        "layout"  # prefill workers are ready, but none holds KV the way this decode worker does
    )
    PROMPT_LOGPROBS = "prompt_logprobs"  # the hand-off carries no logprobs of the prompt


@dataclass(frozen=True, slots=True)
class Decision:
    decode: WorkerView
    prefill_candidates: tuple[str, ...]  # addresses, best first
    reason: Reason


def decide(fleet: Fleet, need: Need, turn: int) -> Decision | None:
    """None: no ready decode worker can take the request. `turn` grows by one per decision."""
    eligible = [view for view in fleet.ready(Role.DECODE) if _fits(view, need)]
    if not eligible:
        return None
    scores = [_score(view) for view in eligible]
    best = [view for view, score in zip(eligible, scores, strict=True) if score == max(scores)]
    decode = best[turn % len(best)]
    candidates, reason = _prefills(fleet, decode, need, turn)
    return Decision(decode, candidates, reason)


def _fits(view: WorkerView, need: Need) -> bool:
    return (
        need.tokens <= view.context_length_max
        and (view.address, view.incarnation) not in need.avoid
    )


def _score(view: WorkerView) -> float:
    """In [0, 1], higher is better. All ready workers are equal: round-robin among them."""
    return 1.0 if view.ready else 0.0


def _prefills(
    fleet: Fleet, decode: WorkerView, need: Need, turn: int
) -> tuple[tuple[str, ...], Reason]:
    ready = fleet.ready(Role.PREFILL)
    if need.prompt_logprobs:
        return (), Reason.PROMPT_LOGPROBS
    if not ready:
        return (), Reason.NO_PREFILL
    matching = [view.address for view in ready if view.layout == decode.layout]
    if not matching:
        return (), Reason.LAYOUT
    return _rotated(matching, turn)[:PREFILL_CANDIDATES_MAX], Reason.REMOTE


def _rotated(addresses: Sequence[str], turn: int) -> tuple[str, ...]:
    start = turn % len(addresses)
    return (*addresses[start:], *addresses[:start])
