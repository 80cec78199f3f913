"""From cells to rows: medians over rounds, and how each compares with the best peer. Pure.

A machine's speed may drift by more than what is to be told apart, so numbers are compared within
their round, where they are minutes apart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from statistics import median

from baton_loadtest.peers.bench import Cell
from baton_loadtest.peers.client import Measurement
from baton_loadtest.peers.contestant import Contestant


@dataclass(frozen=True, slots=True)
class Ratios:
    """To the best peer of a round at one concurrency, which may be another one for each number."""

    throughput: float  # more is better
    ttft: float  # less is better
    itl: float  # less is better


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One contestant at one concurrency."""

    contestant: str
    ours: bool
    concurrency: int
    rounds: tuple[Measurement, ...]  # those that gave one
    problems: tuple[str, ...]  # of those that gave none
    typical: Measurement | None  # medians of the rounds; failed requests are added up
    round_ratios: tuple[Ratios, ...]  # of the rounds that had something to compare, on both sides
    ratios: Ratios | None  # their medians


def ranked(cells: Sequence[Cell], contestants: Sequence[Contestant]) -> tuple[PeerRow, ...]:
    """By concurrency, then in the order of the contestants."""
    peers = {one.name for one in contestants if not one.ours}
    return tuple(
        _row(one, concurrency, [cell for cell in cells if cell.concurrency == concurrency], peers)
        for concurrency in sorted({cell.concurrency for cell in cells})
        for one in contestants
    )


def _row(one: Contestant, concurrency: int, cells: Sequence[Cell], peers: Set[str]) -> PeerRow:
    own = [cell for cell in cells if cell.contestant == one.name]
    rounds = tuple(cell.measurement for cell in own if cell.measurement is not None)
    problems = tuple(cell.problem for cell in own if cell.problem is not None)
    ratios = tuple(_ratios(own, [cell for cell in cells if cell.contestant in peers]))
    return PeerRow(
        one.name,
        one.ours,
        concurrency,
        rounds,
        problems,
        typical_of(rounds) if rounds else None,
        ratios,
        _typical_ratios(ratios) if ratios else None,
    )


def _ratios(own: Sequence[Cell], peers: Sequence[Cell]) -> Iterator[Ratios]:
    for cell in own:
        of_round = [peer.measurement for peer in peers if peer.round == cell.round]
        measured = [measurement for measurement in of_round if measurement is not None]
        if cell.measurement is not None and measured:
            ratios = against(cell.measurement, measured)
            if ratios is not None:
                yield ratios


def _typical_ratios(ratios: Sequence[Ratios]) -> Ratios:
    return Ratios(
        throughput=median(one.throughput for one in ratios),
        ttft=median(one.ttft for one in ratios),
        itl=median(one.itl for one in ratios),
    )


def typical_of(rounds: Sequence[Measurement]) -> Measurement:
    """`rounds`: at least one."""
    return Measurement(
        output_tokens_per_s=median(one.output_tokens_per_s for one in rounds),
        ttft_mean_s=median(one.ttft_mean_s for one in rounds),
        itl_mean_s=median(one.itl_mean_s for one in rounds),
        itl_p99_s=median(one.itl_p99_s for one in rounds),
        completed=sum(one.completed for one in rounds),
        failed=sum(one.failed for one in rounds),
    )


def against(one: Measurement, peers: Iterable[Measurement]) -> Ratios | None:
    """None when a best peer's number is zero: nothing was measured then."""
    known = list(peers)
    best = (
        _best(known, max, lambda peer: peer.output_tokens_per_s),
        _best(known, min, lambda peer: peer.ttft_mean_s),
        _best(known, min, lambda peer: peer.itl_mean_s),
    )
    if not all(best):
        return None
    throughput, ttft, itl = best
    return Ratios(
        one.output_tokens_per_s / throughput, one.ttft_mean_s / ttft, one.itl_mean_s / itl
    )


def _best(
    peers: Sequence[Measurement],
    choose: Callable[[Iterable[float]], float],
    number: Callable[[Measurement], float],
) -> float:
    return choose(number(peer) for peer in peers)
