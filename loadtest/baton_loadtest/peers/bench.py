"""The order of a comparison: rounds of all contestants, each at every concurrency.

One server at a time, all at the same loads. Whoever fails is written down as failed and the next
one starts. Knows no process, no HTTP and no particular server.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from baton.common.errors import BatonError

from baton_loadtest.peers.client import Load, Measurement
from baton_loadtest.peers.contestant import Contestant
from baton_loadtest.peers.steps import Tell

CONCURRENCIES = (1, 8, 32)
PROMPTS_PER_CLIENT = 3
PROMPTS_MIN = 12
"""A lone client's three take seconds, and what else a machine does may fill these."""

QUICK_PROMPTS_MIN = 6

SEEDS_PER_ROUND = 1_000
"""More than the largest concurrency, so that no two loads share a seed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One contestant, once, at one concurrency: a measurement, or why there is none."""

    contestant: str
    round: int
    concurrency: int
    measurement: Measurement | None
    problem: str | None


class Servers(Protocol):
    def serving(self, contestant: Contestant, round_: int) -> AbstractContextManager[str]:
        """The address of the ready contestant. Raises BatonError."""
        ...


class Client(Protocol):
    def measure(self, contestant: Contestant, url: str, round_: int, load: Load) -> Measurement:
        """Raises BatonError."""
        ...


def loads(round_: int, *, quick: bool) -> tuple[Load, ...]:
    """The same for every contestant of a round; prompts differ from load to load."""
    return tuple(
        Load(
            concurrency,
            max(QUICK_PROMPTS_MIN, concurrency)
            if quick
            else max(PROMPTS_MIN, PROMPTS_PER_CLIENT * concurrency),
            seed=round_ * SEEDS_PER_ROUND + concurrency,
        )
        for concurrency in CONCURRENCIES
    )


class PeerBench:
    def __init__(self, servers: Servers, client: Client, *, tell: Tell) -> None:
        self._servers = servers
        self._client = client
        self._tell = tell

    def run(
        self, contestants: Sequence[Contestant], *, rounds: int, quick: bool
    ) -> tuple[Cell, ...]:
        """Contestants take turns round by round, so that a noisy hour does not hit only one."""
        return tuple(
            cell
            for round_ in range(1, rounds + 1)
            for contestant in contestants
            for cell in self._contestant(contestant, round_, loads(round_, quick=quick))
        )

    def _contestant(
        self, contestant: Contestant, round_: int, planned: Sequence[Load]
    ) -> Sequence[Cell]:
        self._tell(f"round {round_}: {contestant.name}: starting")
        try:
            with self._servers.serving(contestant, round_) as url:
                return [self._cell(contestant, url, round_, load) for load in planned]
        except BatonError as error:
            self._tell(f"round {round_}: {contestant.name}: {error.message}")
            return failed(contestant.name, round_, planned, error.message)

    def _cell(self, contestant: Contestant, url: str, round_: int, load: Load) -> Cell:
        try:
            found = self._client.measure(contestant, url, round_, load)
        except BatonError as error:
            self._tell(f"  {load.concurrency} clients: {error.message}")
            return Cell(contestant.name, round_, load.concurrency, None, error.message)
        self._tell(f"  {load.concurrency} clients: {found.output_tokens_per_s:.1f} tok/s")
        return Cell(contestant.name, round_, load.concurrency, found, None)


def failed(name: str, round_: int, missed: Sequence[Load], problem: str) -> Sequence[Cell]:
    return [Cell(name, round_, load.concurrency, None, problem) for load in missed]
