"""From cells to rows: medians over rounds, and how each compares with the best peer. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from baton_loadtest.peers.bench import Cell
from baton_loadtest.peers.client import Measurement
from baton_loadtest.peers.contestant import Contestant


@dataclass(frozen=True, slots=True)
class Ratios:
    """To the best peer at the same concurrency, which may be another one for each number."""

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
    ratios: Ratios | None  # None: nothing to compare, on one side or the other


def ranked(cells: Sequence[Cell], contestants: Sequence[Contestant]) -> tuple[PeerRow, ...]:
    """By concurrency, then in the order of the contestants."""
    rows = [
        _row(one, concurrency, [c for c in cells if _belongs(c, one.name, concurrency)])
        for concurrency in sorted({cell.concurrency for cell in cells})
        for one in contestants
    ]
    return tuple(_with_ratios(row, rows) for row in rows)


def _belongs(cell: Cell, name: str, concurrency: int) -> bool:
    return cell.contestant == name and cell.concurrency == concurrency


def _row(one: Contestant, concurrency: int, cells: Sequence[Cell]) -> PeerRow:
    rounds = tuple(cell.measurement for cell in cells if cell.measurement is not None)
    problems = tuple(cell.problem for cell in cells if cell.problem is not None)
    typical = typical_of(rounds) if rounds else None
    return PeerRow(one.name, one.ours, concurrency, rounds, problems, typical, None)


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


def _with_ratios(row: PeerRow, rows: Sequence[PeerRow]) -> PeerRow:
    peers = [
        one.typical
        for one in rows
        if not one.ours and one.concurrency == row.concurrency and one.typical is not None
    ]
    ratios = None if row.typical is None or not peers else against(row.typical, peers)
    return PeerRow(
        row.contestant,
        row.ours,
        row.concurrency,
        row.rounds,
        row.problems,
        row.typical,
        ratios,
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
