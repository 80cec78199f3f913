"""Graphs of decode steps: which batch sizes have one, and their capture.

A step of one row per sequence is padded to the next size that has a graph; padding sequences have
no context and padding rows write nowhere, so nobody sees them. Knows sizes and the device; knows
nothing of what is captured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from baton.engine.cuda.device import Device, Graph
from baton.engine.cuda.memory import graphs_bytes

SMALL_SIZES = (1, 2, 4, 8)
"""Few requests are where a step is shortest: every one of these is worth its own graph."""

GRAPHED_SEQUENCES_MAX = 512
"""Above it a step is so long that launching its kernels one by one costs next to nothing."""


def graph_sizes(sequences_max: int) -> tuple[int, ...]:
    """Batch sizes with a graph, ascending: the largest step has one, if any has. Padding adds less
    than a quarter, once there are eight."""
    largest = min(sequences_max, GRAPHED_SEQUENCES_MAX)
    sizes = [size for size in SMALL_SIZES if size <= largest]
    while sizes[-1] < largest:
        # steps of 8 up to 64, of 16 up to 128, of 32 up to 256 and so on
        sizes.append(sizes[-1] + max(8, (1 << sizes[-1].bit_length()) >> 4))
    sizes[-1] = min(sizes[-1], largest)
    return tuple(sizes)


def padded_size(sequences: int, sizes: tuple[int, ...]) -> int | None:
    """The smallest size that holds so many; None: there is none."""
    return next((size for size in sizes if size >= sequences), None)


@dataclass(frozen=True, slots=True)
class Capture:
    """How to come to the graph of a batch size."""

    warm: Callable[[int], None]  # runs the work once: kernels are compiled, libraries start
    work: Callable[[int], None]  # the work alone


def capture_graphs(
    device: Device,
    sizes: tuple[int, ...],
    capture: Capture,
    captured: Callable[[int, int], None],
) -> Mapping[int, Graph]:
    """A graph of each size, the largest first: it takes most. `captured` hears, after each, how
    many there are of how many."""
    graphs: dict[int, Graph] = {}
    for size in reversed(sizes):
        capture.warm(size)
        graphs[size] = _one(device, size, capture)
        captured(len(graphs), len(sizes))
    return graphs


def predict_graphs_bytes(device: Device, sizes: tuple[int, ...], capture: Capture) -> int:
    """What the graphs of all sizes will take: one is captured, measured and dropped."""
    capture.warm(sizes[-1])
    device.release_cached()
    before = device.memory()
    graph = _one(device, sizes[-1], capture)
    after = device.memory()
    del graph
    return graphs_bytes(before, after, captured=1, wanted=len(sizes))


def _one(device: Device, size: int, capture: Capture) -> Graph:
    return device.capture(lambda: capture.work(size))
