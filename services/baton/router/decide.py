"""Which decode worker runs a request and which prefill workers it may ask: filter, score, pick.

Pure: an immutable picture of the fleet and a request's needs go in, a decision with its reason
comes out. Knows no streams, no clock and no randomness; whose turn it is comes in as a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from baton.router import estimate
from baton.router.fleet import Layout, Role, WorkerLoad, WorkerView

PREFILL_CANDIDATES_MAX = 3
"""Enough for the failure ladder: after three refusals a local prefill is the faster way out."""

TOLERANCE_RATIO = 0.1
TOLERANCE_S = 0.005
"""Predictions are about this good: what differs by less is equal, and taken in turn."""

PROBE_TURNS = 32
"""One in so many prompts that would be slower on an idle prefill worker goes there all the same: a
worker that nobody asks learns nothing, and would look slow for ever. Few enough that the 95th
percentile does not show it."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks of a decode worker."""

    tokens: int  # prompt + output, at most
    prompt_tokens: int = 0  # to be computed before the next token: prompt + output so far
    prompt_logprobs: bool = False
    # (address, incarnation) of workers this request has already failed on
    avoid: frozenset[tuple[str, int]] = frozenset()
    layout: Layout | None = None  # of the worker that made its output: only the like continue it
    within_s: float | None = None  # the first token is of no use later; None: whenever it comes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker, how busy it is with all that is on its way to it, and what it holds of a prompt."""

    view: WorkerView
    load: WorkerLoad = WorkerLoad()  # noqa: RUF009 (frozen)
    cached_tokens: int = 0


class Reason(Enum):
    """Where the prompt will be computed, and why there."""

    REMOTE = "remote"
    SHORT = "short"  # a block or less: a hand-off costs more than it saves
    CACHED = "cached"  # a block or less is missing on the decode worker
    NO_PREFILL = "no_prefill"  # no ready prefill worker
    # Prefill workers are ready, but none holds KV the way this decode worker does.
    LAYOUT = "layout"
    PROMPT_LOGPROBS = "prompt_logprobs"  # the hand-off carries no logprobs of the prompt
    PREFILL_SATURATED = "prefill_saturated"  # the wait for prefill outlasts a local prefill
    LOCAL_FASTER = "local_faster"  # even an idle prefill worker would be slower, moving included
    PROBE = "probe"  # as above, but only asking prefill shows whether it still is


@dataclass(frozen=True, slots=True)
class Decision:
    decode: WorkerView
    prefill_candidates: tuple[str, ...]  # addresses, best first
    reason: Reason
    cached_tokens: int = 0  # of the prompt, on the decode worker
    first_token_s: float = 0.0  # until then, as predicted; 0 where nothing is learned
    timely: bool = True  # whether that is as soon as was asked for


def decide(
    candidates: Sequence[Candidate], need: Need, turn: int, *, cores_shared: bool = False
) -> Decision | None:
    """None: no ready decode worker can take the request. `turn` grows by one per decision.

    `cores_shared`: all workers are on the same cores. A prompt computed on decode then takes from
    prefill what it saves there, and holds up its batch besides: no wait for prefill is worth that.
    """
    able = [c for c in candidates if c.view.role is Role.DECODE and eligible(c.view, need)]
    if not able:
        return None
    roomy = [c for c in able if _has_room(c, need)] or able
    costs = [_decode_s(candidate, need) for candidate in roomy]
    chosen = _pick(roomy, costs, turn)
    decode, first_token_s = roomy[chosen], costs[chosen]
    prefills, reason = _prefills(candidates, decode, need, turn, cores_shared=cores_shared)
    if prefills:
        prefill = next(c for c in candidates if c.view.address == prefills[0])
        first_token_s = _remote_s(prefill, decode, need)
    timely = need.within_s is None or first_token_s <= need.within_s
    return Decision(
        decode.view, prefills, reason, decode.cached_tokens, first_token_s, timely=timely
    )


def eligible(view: WorkerView, need: Need) -> bool:
    """Whether a ready worker may run the request at all."""
    return (
        view.ready
        and need.tokens <= view.context_length_max
        and view.process not in need.avoid
        and need.layout in (None, view.layout)
    )


def score(candidate: Candidate, need: Need) -> float:
    """In [0, 1], higher is better: a decode worker for a request."""
    return 1.0 / (1.0 + _decode_s(candidate, need))


def _decode_s(candidate: Candidate, need: Need) -> float:
    """Seconds to the first token if all was computed there: most cached prefix wins, unless its
    wait exceeds another's by more than the prefill it saves."""
    load, tokens = candidate.load, need.prompt_tokens
    own_s = estimate.prefill_s(load, tokens, candidate.cached_tokens)
    return estimate.wait_s(load, candidate.view.layout) + own_s


def _has_room(candidate: Candidate, need: Need) -> bool:
    """Whether its prompt's blocks are free now; without them it waits for others to end."""
    view = candidate.view
    if not view.block_count:
        return True
    blocks = -(-(need.prompt_tokens - candidate.cached_tokens + 1) // view.layout.block_size)
    return candidate.load.blocks_used + blocks <= view.block_count


def _pick(candidates: Sequence[Candidate], costs: Sequence[float], turn: int) -> int:
    """The index of the cheapest. Among equals: who holds most, then who has least, then whose turn
    it is."""
    limit_s = min(costs) * (1 + TOLERANCE_RATIO) + TOLERANCE_S
    count = len(candidates)
    order = sorted(range(count), key=lambda i: candidates[i].view.address)
    ranks = {
        index: (
            -candidates[index].cached_tokens,
            candidates[index].load.running + candidates[index].load.waiting,
            (place - turn) % count,
        )
        for place, index in enumerate(order)
        if costs[index] <= limit_s
    }
    return min(ranks, key=lambda index: ranks[index])


def _prefills(
    candidates: Sequence[Candidate],
    decode: Candidate,
    need: Need,
    turn: int,
    *,
    cores_shared: bool,
) -> tuple[tuple[str, ...], Reason]:
    """Whom decode may ask, and why those or nobody."""
    if need.prompt_logprobs:
        return (), Reason.PROMPT_LOGPROBS
    ready = [c for c in candidates if c.view.role is Role.PREFILL and c.view.ready]
    if not ready:
        return (), Reason.NO_PREFILL
    matching = [c for c in ready if c.view.layout == decode.view.layout]
    if not matching:
        return (), Reason.LAYOUT
    block_size = decode.view.layout.block_size
    if need.prompt_tokens <= block_size:
        return (), Reason.SHORT
    if need.prompt_tokens - decode.cached_tokens <= block_size:
        return (), Reason.CACHED
    return _remote_or_local(matching, decode, need, turn, cores_shared=cores_shared)


def _remote_or_local(
    matching: Sequence[Candidate],
    decode: Candidate,
    need: Need,
    turn: int,
    *,
    cores_shared: bool,
) -> tuple[tuple[str, ...], Reason]:
    costs = [_remote_s(candidate, decode, need) for candidate in matching]
    first = _pick(matching, costs, turn)
    rest = sorted(
        (index for index in range(len(matching)) if index != first),
        key=lambda i: (costs[i], (i - first) % len(matching)),
    )
    addresses = tuple(matching[i].view.address for i in (first, *rest))[:PREFILL_CANDIDATES_MAX]
    best = matching[first]
    if cores_shared or not (decode.load.learned and best.load.learned):
        return addresses, Reason.REMOTE  # nothing to compare, or nothing yet
    local_s = estimate.local_s(
        decode.load, decode.view.layout, need.prompt_tokens, decode.cached_tokens
    )
    if costs[first] < local_s:
        return addresses, Reason.REMOTE
    idle_s = costs[first] - estimate.wait_s(best.load, best.view.layout)
    if idle_s < local_s and (best.load.prefill_tokens_waiting or best.load.running):
        return (), Reason.PREFILL_SATURATED
    if turn % PROBE_TURNS == PROBE_TURNS - 1:
        return addresses, Reason.PROBE
    return (), Reason.LOCAL_FASTER


def _remote_s(prefill: Candidate, decode: Candidate, need: Need) -> float:
    """Until the first token, with what of the transfer does not overlap with computing."""
    layout, tokens = decode.view.layout, need.prompt_tokens
    computing_s = estimate.prefill_s(prefill.load, tokens, prefill.cached_tokens)
    moving_s = estimate.transfer_s(decode.load, prefill.view, layout, tokens, decode.cached_tokens)
    waiting_s = estimate.wait_s(prefill.load, prefill.view.layout)
    return waiting_s + computing_s + max(0.0, moving_s - computing_s)
