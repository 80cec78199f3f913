"""The results that are kept: every JSON in loadtest/results, as what it was written from.

Reads files, all of which are committed; what a run leaves in `local/` is nobody's yet. Knows what
results hold, not how they are shown.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from baton_loadtest.costmodel_stats import KindRow
from baton_loadtest.gpu_parity import ParityReport, read_parity_json
from baton_loadtest.gpu_report import GpuReport, read_gpu_json
from baton_loadtest.peers.client import Measurement
from baton_loadtest.peers.ranking import Ratios
from baton_loadtest.quality_report import QualityReport
from baton_loadtest.speculation_run import SpeculationRow

RESULTS = Path("loadtest/results")
LINKS = "../loadtest/results"
"""The same folder, as a page in docs/ links to it."""

_STAMP = re.compile(r"-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)\d\d")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """One result, with what its name says."""

    when: str  # UTC, such as "2026-12-01 10:40"
    link: str  # from a page in docs/
    found: T

    @property
    def run(self) -> str:
        return f"[{self.when}]({self.link})"


@dataclass(frozen=True, slots=True)
class PeersRow:
    """A PeerRow without its rounds, which older results have not all of."""

    contestant: str
    ours: bool
    concurrency: int
    typical: Measurement | None
    ratios: Ratios | None


@dataclass(frozen=True, slots=True)
class PeersResult:
    machine: str
    model: str
    baton_options: Sequence[str]
    rounds: int
    quick: bool
    rows: Sequence[PeersRow]


@dataclass(frozen=True, slots=True)
class SpeculationResult:
    machine: str
    model: str
    rows: Sequence[SpeculationRow]


@dataclass(frozen=True, slots=True)
class CostmodelResult:
    machine: str
    model: str
    rows: Sequence[KindRow]


@dataclass(frozen=True, slots=True)
class KeptResults:
    """Each kind with the newest first."""

    gpu: Sequence[Kept[GpuReport]] = ()
    parity: Sequence[Kept[ParityReport]] = ()
    workers: Sequence[Kept[ParityReport]] = ()
    quality: Sequence[Kept[QualityReport]] = ()
    peers: Sequence[Kept[PeersResult]] = ()
    speculation: Sequence[Kept[SpeculationResult]] = ()
    costmodel: Sequence[Kept[CostmodelResult]] = ()


def read_kept(folder: Path) -> KeptResults:
    """Raises msgspec.DecodeError, ValidationError for a file that is not what its name says."""
    return KeptResults(
        gpu=_read(folder, "gpu-*.json", read_gpu_json),
        parity=_read(folder, "parity-*.json", read_parity_json),
        workers=_read(folder, "workers-*.json", read_parity_json),
        quality=_read(folder, "quality-*.json", _as(QualityReport)),
        peers=_read(folder, "peers-*/peers.json", _as(PeersResult)),
        speculation=_read(folder, "speculation-*.json", _as(SpeculationResult)),
        costmodel=_read(folder, "costmodel-*.json", _as(CostmodelResult)),
    )


def newest(kept: Iterable[tuple[object, T]]) -> Iterator[T]:
    """Of results by what they are of, the newest first: the first of each."""
    seen: set[object] = set()
    for of, one in kept:
        if of not in seen:
            seen.add(of)
            yield one


def _read(folder: Path, pattern: str, decode: Callable[[str], T]) -> list[Kept[T]]:
    found = []
    for path in folder.glob(pattern):
        name = path.relative_to(folder).as_posix()
        if match := _STAMP.search(name):
            when = "{}-{}-{} {}:{}".format(*match.groups())
            found.append(Kept(when, f"{LINKS}/{name}", decode(path.read_text())))
    return sorted(found, key=lambda kept: (kept.when, kept.link), reverse=True)


def _as(kind: type[T]) -> Callable[[str], T]:
    return lambda text: msgspec.json.decode(text, type=kind)
