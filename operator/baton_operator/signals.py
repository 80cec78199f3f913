"""From what each router says to the signals of the scaling law: a worker is counted once. Pure.

Routers tell of their own traffic, and of all workers as each last heard them; the freshest word of
a worker is the one that counts. Knows no HTTP, no law and no pods.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import msgspec
from baton.common.signals import LATELY_S, RouterSignals, Traffic, WorkerSignals

from baton_operator.names import Role
from baton_operator.scaling import Attainment, DecodeSignals, PrefillSignals, Signals

WORKER_SILENT_S = 15.0
"""Workers speak every second or so; one that a router has not heard for so long is gone, and must
not be counted as capacity, as backlog, nor as a reason to hold."""

WINDOW_MIN_S = 10.0
"""A router that has just started divides by this: a burst in its first second is no rate."""

TOKEN_COST_MIN_S = 1e-12
"""No accelerator reads a prompt that fast: a fit that says so has learned nothing."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One router's answer, and when it was asked on the law's clock."""

    signals: RouterSignals
    asked_s: float


def add_up(heard: Sequence[Heard], *, expected: int) -> Signals | None:
    """What all routers say together; None: nobody said anything. `expected`: routers there are."""
    if not heard:
        return None
    traffic = [one.signals.traffic for one in heard]
    workers = distinct_workers(heard)
    prefill = [one for one in workers if one.role == Role.PREFILL.value]
    decode = [one for one in workers if one.role == Role.DECODE.value]
    return Signals(
        taken_s=min(one.asked_s for one in heard),
        routers_heard=len(heard),
        routers_expected=expected,
        requests_waiting=sum(one.requests_waiting for one in traffic),
        requests_running=sum(one.requests_running for one in traffic),
        prefill=_prefill_signals(traffic, prefill, decode),
        decode=_decode_signals(traffic, decode),
        ttft=_attainment((one.ttft_attained, one.ttft_requests) for one in traffic),
        itl=_attainment((one.itl_attained, one.itl_requests) for one in traffic),
    )


def distinct_workers(heard: Iterable[Heard]) -> tuple[WorkerSignals, ...]:
    """Each worker once, in the order of addresses, as it was heard last; silent ones not at all.

    By address: a worker that restarted has a new incarnation there, and its old one is no more.
    """
    freshest: dict[str, tuple[float, WorkerSignals]] = {}
    for one in heard:
        for worker in one.signals.workers:
            spoken_s = one.asked_s - worker.age_s
            known = freshest.get(worker.address)
            audible = 0 <= worker.age_s <= WORKER_SILENT_S
            if audible and (known is None or known[0] < spoken_s):
                freshest[worker.address] = (spoken_s, worker)
    return tuple(worker for _, (_, worker) in sorted(freshest.items()))


def _prefill_signals(
    traffic: Sequence[Traffic], prefill: Sequence[WorkerSignals], decode: Sequence[WorkerSignals]
) -> PrefillSignals:
    """Where no prefill worker has learned its speed, decode's will do: it is the same engine."""
    arrived = sum(one.requests_arrived for one in traffic)
    prompt_tokens = sum(map(_uncached, traffic)) / arrived if arrived else 0.0
    speeds = _prefill_speeds(prefill, prompt_tokens) or _prefill_speeds(decode, prompt_tokens)
    waiting = sum(one.requests_waiting for one in traffic)  # at the routers: no worker knows them
    return PrefillSignals(
        backlog_tokens=sum(one.prefill_tokens_waiting for one in (*prefill, *decode))
        + waiting * prompt_tokens,
        arrival_tokens_per_s=sum(_rate(one, _uncached(one)) for one in traffic),
        lately_tokens_per_s=sum(_rate(one, _uncached(one)) for one in map(_lately, traffic)),
        prompt_tokens=prompt_tokens,
        speed_tokens_per_s=fmean(speeds) if speeds else 0.0,
    )


def _prefill_speeds(workers: Iterable[WorkerSignals], prompt_tokens: float) -> list[float]:
    """Tokens per second of each worker that knows what a token costs, with the average prompt.

    A worker that has enough to do fills its steps, so the fixed part of a step is spread over many
    tokens and left out; a token attends to half of its prompt on average.
    """
    costs = [one.prefill_token_s + one.prefill_kv_token_s * prompt_tokens / 2 for one in workers]
    return [1 / cost_s for cost_s in costs if cost_s > TOKEN_COST_MIN_S]


def _decode_signals(traffic: Sequence[Traffic], decode: Sequence[WorkerSignals]) -> DecodeSignals:
    learned = [one for one in decode if one.fixed_s + one.decode_row_s + one.kv_token_s > 0]
    lately = [_lately(one) for one in traffic]
    answer_tokens = _answer_tokens(traffic)
    arrived = sum(one.requests_arrived for one in traffic)
    prompt_tokens = sum(one.prompt_tokens_arrived for one in traffic) / arrived if arrived else 0.0
    waiting = sum(one.requests_waiting for one in traffic)
    waiting += sum(one.requests_waiting for one in decode)
    tokens_each = [one.block_count * one.block_size for one in decode if one.block_count > 0]
    return DecodeSignals(
        arrival_tokens_per_s=_requests_per_s(traffic) * answer_tokens,
        # long answers may all be under way: then the minute's are the best guess
        lately_tokens_per_s=_requests_per_s(lately) * (_answer_tokens(lately) or answer_tokens),
        rows=sum(one.requests_running for one in decode),
        kv_tokens=sum(one.blocks_used * one.block_size for one in decode),
        kv_used=sum(one.blocks_used / one.block_count for one in decode if one.block_count > 0),
        kv_waiting=waiting * prompt_tokens / fmean(tokens_each) if tokens_each else 0.0,
        step_fixed_s=_mean(one.fixed_s for one in learned),
        step_row_s=_mean(one.decode_row_s for one in learned),
        step_kv_token_s=_mean(one.kv_token_s for one in learned),
    )


def _attainment(counts: Iterable[tuple[int, int]]) -> Attainment | None:
    """From (attained, requests) of each router; None: there was no request to tell by."""
    pairs = tuple(counts)
    requests = sum(total for _, total in pairs)
    if requests <= 0:
        return None
    return Attainment(sum(attained for attained, _ in pairs) / requests, requests)


def _lately(traffic: Traffic) -> Traffic:
    """Of the last seconds alone; an older router's minute must do."""
    if traffic.lately is None:
        return traffic
    sums = msgspec.structs.asdict(traffic.lately)
    return msgspec.structs.replace(traffic, window_s=min(traffic.window_s, LATELY_S), **sums)


def _uncached(traffic: Traffic) -> int:
    return max(0, traffic.prompt_tokens_arrived - traffic.prompt_tokens_cached)


def _answer_tokens(traffic: Sequence[Traffic]) -> float:
    """Of an answer, on average; 0 while none has ended."""
    ended = sum(one.requests_ended for one in traffic)
    return sum(one.output_tokens for one in traffic) / ended if ended else 0.0


def _requests_per_s(traffic: Iterable[Traffic]) -> float:
    return sum(_rate(one, one.requests_arrived) for one in traffic)


def _rate(traffic: Traffic, amount: float) -> float:
    return amount / max(traffic.window_s, WINDOW_MIN_S)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fmean(found) if found else 0.0


def requests_on(workers: Iterable[WorkerSignals]) -> Mapping[str, WorkerSignals]:
    """By host: where a worker's pod is."""
    return {one.address.rpartition(":")[0].strip("[]"): one for one in workers}
