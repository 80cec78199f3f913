"""A runner on a device, ready: weights, memory, graphs, and as many KV blocks as are left.

What takes memory is made first, so that the blocks get what is really free. Knows the order of
things; every piece's own business is elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

from baton.engine.cuda.decoder import DeviceDecoder, StepLimits
from baton.engine.cuda.device import Device
from baton.engine.cuda.graphs import capture_graphs, graph_sizes, predict_graphs_bytes
from baton.engine.cuda.handoff import DeviceKvStore
from baton.engine.cuda.kvcache import DeviceKvCache, kv_block_bytes
from baton.engine.cuda.load import compute_dtype, load_weights
from baton.engine.cuda.memory import BLOCKS_MIN, pool_blocks
from baton.engine.cuda.pack import TensorSource
from baton.engine.cuda.runner import CudaRunner
from baton.engine.cuda.step import StepWork
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.parts import WeightSource
from baton.model.config import ModelConfig

SAMPLES_MAX = 256
"""Rows of logits at once: 128 MiB of a vocabulary of 128k. A step with more takes turns."""

Report = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is, and how much there is."""


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """What a worker asks for."""

    quantization: Quantization
    kv_dtype: str  # as workers compare it
    block_size: int
    rows_max: int  # tokens of a step
    sequences_max: int
    memory_fraction: float  # of the device, whoever uses it


@dataclass(frozen=True, slots=True)
class CudaParts:
    runner: CudaRunner
    kv: DeviceKvStore
    block_count: int


def build_cuda_runner(
    source: WeightSource | TensorSource,
    config: ModelConfig,
    spec: RunnerSpec,
    device: Device,
    report: Report,
) -> CudaParts:
    """Raises ModelFileError, and ConfigError where the device has no room."""
    work = _new_work(source, config, spec, device)
    report("weights", 1, 1)
    sizes = graph_sizes(spec.sequences_max)
    reserved = _warm_up(work, config, spec, device, sizes, report)
    device.release_cached()
    blocks = pool_blocks(
        device.memory(),
        fraction=spec.memory_fraction,
        reserved_bytes=reserved,
        block_bytes=kv_block_bytes(config, block_size=spec.block_size, dtype=spec.kv_dtype),
    )
    cache = _new_cache(config, spec, device, blocks)
    kv = DeviceKvStore(cache, device)
    graphs = capture_graphs(
        device,
        sizes,
        work.graph_work(cache),
        lambda done, wanted: report("graphs", done, wanted),
    )
    return CudaParts(CudaRunner(device, work, cache, graphs), kv, blocks)


def _new_work(
    source: WeightSource | TensorSource, config: ModelConfig, spec: RunnerSpec, device: Device
) -> StepWork:
    limits = StepLimits(spec.rows_max, spec.sequences_max, min(SAMPLES_MAX, spec.rows_max))
    weights = load_weights(source, config, spec.quantization, rows_max=spec.rows_max, device=device)
    decoder = DeviceDecoder(config, weights, limits, device, compute_dtype(spec.quantization))
    return StepWork(config, decoder, device, block_size=spec.block_size)


def _new_cache(config: ModelConfig, spec: RunnerSpec, device: Device, blocks: int) -> DeviceKvCache:
    return DeviceKvCache(
        config,
        block_count=blocks,
        block_size=spec.block_size,
        dtype=spec.kv_dtype,
        device=device.torch_device,
    )


def _warm_up(
    work: StepWork,
    config: ModelConfig,
    spec: RunnerSpec,
    device: Device,
    sizes: tuple[int, ...],
    report: Report,
) -> int:
    """Run every kind of step once over padding, so that no request waits for a compiler. Bytes the
    graphs will take."""
    small = _new_cache(config, spec, device, BLOCKS_MIN)
    lengths = warm_lengths(spec.rows_max)
    for done, rows in enumerate(lengths, 1):
        work.warm_rows(rows, small)
        report("steps", done, len(lengths))
    return predict_graphs_bytes(device, sizes, work.graph_work(small))


def warm_lengths(rows_max: int) -> tuple[int, ...]:
    """Numbers of rows that between them take every variant of every kernel: they change where rows
    double."""
    doubled = [1 << power for power in range(rows_max.bit_length()) if 1 << power < rows_max]
    return (*doubled, rows_max)
