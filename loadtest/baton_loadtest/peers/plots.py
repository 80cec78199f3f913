"""Draws a comparison's JSON, a picture per metric: `plots.py COMPARISON.json FOLDER`.

A script for an environment that has matplotlib; imports nothing of ours.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]

mpl.use("Agg")  # no screen

import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]

PICTURES = (
    ("throughput", "output_tokens_per_s", "output tokens per second", 1.0),
    ("ttft", "ttft_mean_s", "mean time to first token, ms", 1000.0),
    ("itl", "itl_mean_s", "mean inter-token latency, ms", 1000.0),
)
"""File name, field of a measurement, label, factor from the field's unit to the label's."""

SIZE_INCHES = (8.0, 5.0)
DOTS_PER_INCH = 120


def draw(found: dict[str, Any], folder: Path) -> None:
    for name, metric, label, factor in PICTURES:
        figure, axes = plt.subplots(figsize=SIZE_INCHES, layout="constrained")
        for contestant in dict.fromkeys(row["contestant"] for row in found["rows"]):
            add_line(axes, found["rows"], contestant, metric, factor)
        ticks = sorted({row["concurrency"] for row in found["rows"]})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("concurrent clients")
        axes.set_ylabel(label)
        axes.set_title(f"{found['model']}\n{found['machine']}", fontsize=8, wrap=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH)
        plt.close(figure)


def add_line(
    axes: Any, rows: list[dict[str, Any]], contestant: str, metric: str, factor: float
) -> None:
    """The medians, with the range of the rounds; a failed concurrency leaves a gap."""
    own = [row for row in rows if row["contestant"] == contestant and row["typical"]]
    if not own:
        return
    middle = [row["typical"][metric] * factor for row in own]
    ranges = [[one[metric] * factor for one in row["rounds"]] for row in own]
    below = [value - min(seen) for value, seen in zip(middle, ranges, strict=True)]
    above = [max(seen) - value for value, seen in zip(middle, ranges, strict=True)]
    style = {"marker": "o", "linewidth": 2.2} if own[0]["ours"] else {"marker": "s", "ls": "--"}
    axes.errorbar(
        [row["concurrency"] for row in own],
        middle,
        yerr=[below, above],
        label=contestant,
        capsize=3,
        **style,
    )


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
