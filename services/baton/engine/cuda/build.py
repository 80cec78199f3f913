"""A runner on a device, ready: weights, memory, graphs, and as many KV blocks as are left.

What takes memory is made first, so that the blocks get what is really free. Knows the order of
things; every piece's own business is elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

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
from baton.engine.quant.quantization import Quantization, require_on_cuda
from baton.engine.weights.parts import WeightSource
from baton.model.config import ModelConfig

SAMPLES_MAX = 256
"""Rows of logits at once: 128 MiB of a vocabulary of 128k. A step with more takes turns; one that
has a graph of more does not."""

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
class DraftModel:
    """A small model that reads along with the one that answers."""

    source: WeightSource | TensorSource
    config: ModelConfig
    kv_dtype: str


@dataclass(frozen=True, slots=True)
class CudaParts:
    runner: CudaRunner
    kv: DeviceKvStore
    block_count: int
    draft: CudaRunner | None = None


def build_cuda_runner(
    source: WeightSource | TensorSource,
    config: ModelConfig,
    spec: RunnerSpec,
    device: Device,
    report: Report,
    draft: DraftModel | None = None,
) -> CudaParts:
    """With a draft, both have as many blocks: KV of a token lies in blocks of the same number.
    Raises ModelFileError, and ConfigError where the device has no room or not the scheme."""
    require_on_cuda(spec.quantization)
    builders = [_Builder(source, config, spec, device, report)]
    if draft is not None:
        # It reads whatever the other one does: beyond what it was trained for its guesses are bad.
        reads = replace(draft.config, context_length=config.context_length)
        kept = replace(spec, kv_dtype=draft.kv_dtype)
        builders.append(_Builder(draft.source, reads, kept, device, report))
    reserved = sum(builder.warm_up() for builder in builders)
    device.release_cached()
    blocks = pool_blocks(
        device.memory(),
        fraction=spec.memory_fraction,
        reserved_bytes=reserved,
        block_bytes=sum(builder.block_bytes for builder in builders),
    )
    caches = [builder.new_cache(blocks) for builder in builders]
    kv = DeviceKvStore(caches[0], device)
    runner, *drafts = (
        builder.runner(cache) for builder, cache in zip(builders, caches, strict=True)
    )
    return CudaParts(runner, kv, blocks, *drafts)


class _Builder:
    """A model on its way to a runner, with all of its memory but that of blocks and graphs."""

    def __init__(
        self,
        source: WeightSource | TensorSource,
        config: ModelConfig,
        spec: RunnerSpec,
        device: Device,
        report: Report,
    ) -> None:
        self._config, self._spec, self._device, self._report = config, spec, device, report
        self._sizes = graph_sizes(spec.sequences_max)
        # a graph has the logits of all its sequences at once
        samples_max = min(max(SAMPLES_MAX, self._sizes[-1]), spec.rows_max)
        limits = StepLimits(spec.rows_max, spec.sequences_max, samples_max)
        self._work = _new_work(source, config, spec, limits, device)
        report("weights", 1, 1)

    @property
    def block_bytes(self) -> int:
        spec = self._spec
        return kv_block_bytes(self._config, block_size=spec.block_size, dtype=spec.kv_dtype)

    def warm_up(self) -> int:
        """Run every kind of step once over padding, so that no request waits for a compiler. Bytes
        the graphs will take."""
        small = self.new_cache(BLOCKS_MIN)
        lengths = warm_lengths(self._spec.rows_max)
        for done, rows in enumerate(lengths, 1):
            self._work.warm_rows(rows, small)
            self._report("steps", done, len(lengths))
        return predict_graphs_bytes(self._device, self._sizes, self._work.graph_work(small))

    def new_cache(self, blocks: int) -> DeviceKvCache:
        return DeviceKvCache(
            self._config,
            block_count=blocks,
            block_size=self._spec.block_size,
            dtype=self._spec.kv_dtype,
            device=self._device.torch_device,
        )

    def runner(self, cache: DeviceKvCache) -> CudaRunner:
        graphs = capture_graphs(
            self._device,
            self._sizes,
            self._work.graph_work(cache),
            lambda done, wanted: self._report("graphs", done, wanted),
        )
        return CudaRunner(self._device, self._work, cache, graphs)


def _new_work(
    source: WeightSource | TensorSource,
    config: ModelConfig,
    spec: RunnerSpec,
    limits: StepLimits,
    device: Device,
) -> StepWork:
    weights = load_weights(source, config, spec.quantization, rows_max=spec.rows_max, device=device)
    decoder = DeviceDecoder(config, weights, limits, device, compute_dtype(spec.quantization))
    return StepWork(config, decoder, device, block_size=spec.block_size)


def warm_lengths(rows_max: int) -> tuple[int, ...]:
    """Numbers of rows that between them take every variant of every kernel: they change where rows
    double."""
    doubled = [1 << power for power in range(rows_max.bit_length()) if 1 << power < rows_max]
    return (*doubled, rows_max)
