"""A run over time: what was asked, how well it was answered, and how many pods answered.

Samples come from whoever watches; this keeps them, sums answers up per interval and writes JSON and
one picture. Knows no cluster, no clients and no clock.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes

from baton_loadtest.steady import Answer

mpl.use("Agg")  # no screen

import matplotlib.pyplot as plt

INTERVAL_S: Final = 5.0
"""Answers are summed up over this: a few per interval under light load."""

SIZE_INCHES = (10.0, 9.0)
DOTS_PER_INCH = 110


@dataclass(frozen=True, slots=True)
class Sample:
    """The service at one moment."""

    at_s: float  # from the start of the run
    streams: Mapping[str, int]  # requests in flight by kind of load
    wanted: Mapping[str, int]  # replicas by role, as decided
    ready: Mapping[str, int]  # replicas by role that serve
    reasons: Mapping[str, str]  # of the last decision by role


@dataclass(frozen=True, slots=True)
class Interval:
    """Answers that ended within INTERVAL_S from `at_s`; None: there was nothing to measure."""

    at_s: float
    answers: int
    failures: int
    ttft_mean_s: float | None
    itl_mean_s: float | None


def intervals(answers: Sequence[Answer], *, start_s: float, end_s: float) -> list[Interval]:
    """Every interval from start to end, the empty ones too."""
    count = max(1, round((end_s - start_s) / INTERVAL_S + 0.5))
    slots: list[list[Answer]] = [[] for _ in range(count)]
    for answer in answers:
        slot = int((answer.ended_s - start_s) // INTERVAL_S)
        if 0 <= slot < count:
            slots[slot].append(answer)
    return [_interval(index * INTERVAL_S, slot) for index, slot in enumerate(slots)]


def _interval(at_s: float, answers: Sequence[Answer]) -> Interval:
    good = [answer for answer in answers if answer.failure is None]
    return Interval(
        at_s,
        len(good),
        len(answers) - len(good),
        _mean([answer.ttft_s for answer in good]),
        _mean([answer.itl_s for answer in good]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def write_timeline(
    samples: Sequence[Sample], found: Sequence[Interval], folder: Path, title: str
) -> None:
    """timeline.json and timeline.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "title": title,
        "samples": [asdict(sample) for sample in samples],
        "intervals": [asdict(interval) for interval in found],
    }
    (folder / "timeline.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    _draw(samples, found, folder / "timeline.png", title)


def _draw(samples: Sequence[Sample], found: Sequence[Interval], target: Path, title: str) -> None:
    figure, (load, latency, gaps, pods) = plt.subplots(
        4, 1, sharex=True, figsize=SIZE_INCHES, layout="constrained"
    )
    at_s = [sample.at_s for sample in samples]
    for kind in sorted({kind for sample in samples for kind in sample.streams}):
        load.step(at_s, [sample.streams.get(kind, 0) for sample in samples], label=kind)
    load.set_ylabel("requests in flight")
    for axes, name, label in ((latency, "ttft_mean_s", "TTFT, s"), (gaps, "itl_mean_s", "ITL, ms")):
        factor = 1000.0 if name == "itl_mean_s" else 1.0
        points = [(one.at_s, getattr(one, name)) for one in found]
        known = [(at, value * factor) for at, value in points if value is not None]
        axes.plot([at for at, _ in known], [value for _, value in known], marker=".")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    for role in sorted({role for sample in samples for role in sample.wanted}):
        (line,) = pods.step(
            at_s, [sample.wanted.get(role, 0) for sample in samples], label=f"{role} wanted"
        )
        ready = [sample.ready.get(role, 0) for sample in samples]
        pods.step(at_s, ready, ls="--", color=line.get_color(), label=f"{role} ready")
    pods.set_ylabel("pods")
    pods.margins(y=0.3)  # for the words above the highest step
    pods.set_xlabel("seconds")
    _mark_reasons(samples, pods)
    for axes in (load, pods):
        axes.legend(fontsize=7, loc="upper left")
    for axes in (load, latency, gaps, pods):
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=9)
    figure.savefig(target, dpi=DOTS_PER_INCH)
    plt.close(figure)


def _mark_reasons(samples: Sequence[Sample], pods: Axes) -> None:
    """The reason beside each change of what is wanted; what falls on one point shares its words."""
    for before, after in pairwise(samples):
        marks: dict[int, list[str]] = {}
        for role, wanted in after.wanted.items():
            if before.wanted.get(role) != wanted:
                marks.setdefault(wanted, []).append(f"{role}: {after.reasons.get(role, '')}")
        for wanted, words in marks.items():
            pods.annotate("\n".join(words), (after.at_s, wanted), fontsize=6, rotation=30)
