"""Baton beside vLLM-CPU and llama.cpp, processor by processor: a section of the page.

Pure: results in, Markdown out. Of runs on one processor the newest of each topology, scheme and
company counts: beside another peer, a ratio means something else.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from baton_loadtest.benchmarks.kept import Kept, PeersResult, PeersRow, newest
from baton_loadtest.benchmarks.tables import table
from baton_loadtest.peers.bench import CONCURRENCIES
from baton_loadtest.peers.client import OUTPUT_TOKENS, PROMPT_TOKENS

_MACHINE = re.compile(r"(?P<processor>.*?\), \d+ cores), .* at (?P<commit>\S+)")
"""Of `surroundings_line`."""

HEAD = (
    "server",
    *(f"tok/s at {n}" for n in CONCURRENCIES),
    *(f"TTFT at {n}" for n in CONCURRENCIES),
    *("failed", "beside", "rounds", "commit", "run"),
)


@dataclass(frozen=True, slots=True)
class _Line:
    """One topology of Baton in one run."""

    kept: Kept[PeersResult]
    processor: str
    commit: str
    server: str
    rows: Sequence[PeersRow]  # at each concurrency
    peers: Sequence[str]

    @property
    def of(self) -> tuple[object, ...]:
        kinds = frozenset(name.split()[0] for name in self.peers)
        return (self.processor, self.server, kinds)


def peers_section(kept: Sequence[Kept[PeersResult]]) -> str:
    lines = list(newest((line.of, line) for one in kept for line in _lines(one)))
    blocks = [
        f"#### {processor}\n\n"
        + table(HEAD, [_cells(one) for one in lines if one.processor == processor])
        for processor in dict.fromkeys(line.processor for line in lines)
    ]
    return "\n\n".join((_opening(kept), *blocks))


def _opening(kept: Sequence[Kept[PeersResult]]) -> str:
    models = ", ".join(sorted({one.found.model for one in kept}))
    return (
        '### Beside vLLM-CPU and llama.cpp: `make bench-peers ARGS="--quantization SCHEME"`\n\n'
        f"{models}, {PROMPT_TOKENS} tokens in, {OUTPUT_TOKENS} out, at 1, 8 and 32 concurrent"
        " requests. tok/s: output over the whole run; TTFT: mean; medians of the rounds. In"
        " brackets: to the best of those beside it, at the same n in the same round (tok/s: more is"
        " better; TTFT: less). failed: requests of all that were sent. The day links to the table"
        " of all servers."
    )


def _lines(kept: Kept[PeersResult]) -> Iterator[_Line]:
    found = kept.found
    match = _MACHINE.fullmatch(found.machine)
    peers = tuple(dict.fromkeys(row.contestant for row in found.rows if not row.ours))
    for name in dict.fromkeys(row.contestant for row in found.rows if row.ours):
        yield _Line(
            kept=kept,
            processor=match["processor"] if match else found.machine,
            commit=f"`{match['commit']}`" if match else "",
            server=" ".join((name, *found.baton_options)),
            rows=[row for row in found.rows if row.contestant == name],
            peers=peers,
        )


def _cells(line: _Line) -> tuple[str, ...]:
    found, at = line.kept.found, {row.concurrency: row for row in line.rows}
    return (
        line.server,
        *(_throughput(at.get(n)) for n in CONCURRENCIES),
        *(_ttft(at.get(n)) for n in CONCURRENCIES),
        *(_failed(line.rows), ", ".join(line.peers)),
        f"{found.rounds}{', quick' if found.quick else ''}",
        *(line.commit, line.kept.run.replace("peers.json", "peers.md")),
    )


def _throughput(row: PeersRow | None) -> str:
    if row is None or row.typical is None:
        return "-"
    ratio = f" ({row.ratios.throughput:.2f})" if row.ratios else ""
    return f"{row.typical.output_tokens_per_s:.1f}{ratio}"


def _ttft(row: PeersRow | None) -> str:
    if row is None or row.typical is None:
        return "-"
    ratio = f" ({row.ratios.ttft:.2f})" if row.ratios else ""
    return f"{row.typical.ttft_mean_s * 1e3:.0f} ms{ratio}"


def _failed(rows: Iterable[PeersRow]) -> str:
    runs = [row.typical for row in rows if row.typical]
    failed = sum(run.failed for run in runs)
    return f"{failed} / {failed + sum(run.completed for run in runs)}"
