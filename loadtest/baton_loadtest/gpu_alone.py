"""The engine alone on this machine's GPU: what it decodes and prefills, and what its memory allows.

Imports the device's code, so it is for commands that have found a device. Each figure is told as
soon as it is known. Knows figures, not where they go.
"""

from collections.abc import Callable, Iterator

from baton.common.clock import SystemClock
from baton.engine.cuda.build import RunnerSpec
from baton.engine.cuda.device import CudaDevice
from baton.engine.cuda.load import compute_dtype, load_weights
from baton.engine.cuda.shapes import DeviceRandomWeights

from baton_loadtest.gpu_bench import EngineBench
from baton_loadtest.gpu_engine import gpu_engine
from baton_loadtest.gpu_kernels import KernelBench, KernelModel, Timer, Work
from baton_loadtest.gpu_rates import best_s, measure_rates
from baton_loadtest.gpu_report import GpuFigure, KernelFigure, decode_work, prefill_work
from baton_loadtest.gpu_roofline import DeviceRates, decode_tokens_per_s, prefill_tokens_per_s
from baton_loadtest.gpu_spec import BLOCK_TOKENS, GpuBenchSpec
from baton_loadtest.gpu_work import KernelWork, Step

STEP_TOKENS = 8_192
"""Of a step: the longest prompt measured is one."""


def device_rates() -> DeviceRates:
    device = CudaDevice()
    rates = measure_rates(device.torch_device)
    device.release_cached()
    return rates


def measure_alone(
    spec: GpuBenchSpec, rates: DeviceRates, listener: Callable[[str], None]
) -> Iterator[GpuFigure]:
    """Nobody refers to the device's memory once this has ended."""
    device = CudaDevice()
    runner_spec = RunnerSpec(
        quantization=spec.quantization,
        kv_dtype=spec.kv_dtype,
        block_size=BLOCK_TOKENS,
        rows_max=STEP_TOKENS,
        sequences_max=max(spec.requests),
        memory_fraction=spec.memory_fraction,
    )

    def progress(what: str, done: int, wanted: int) -> None:
        listener(f"{what}: {done} of {wanted}")

    # random ones: the time of a step does not depend on its weights
    weights = DeviceRandomWeights(spec.config, 0, device.torch_device)
    engine = gpu_engine(weights, spec.config, runner_spec, device, progress)
    bench = EngineBench(engine, spec.config.vocab_size, SystemClock())
    yield from alone_figures(bench, spec, rates)


def measure_kernels(
    spec: GpuBenchSpec, rates: DeviceRates, listener: Callable[[str], None]
) -> Iterator[KernelFigure]:
    """Kind by kind, of weights drawn anew. Nobody refers to them once this has ended."""
    device, config = CudaDevice(), spec.config
    listener("kernels: weights")
    weights = load_weights(
        DeviceRandomWeights(config, 0, device.torch_device),
        config,
        spec.quantization,
        rows_max=STEP_TOKENS,
        device=device,
    )
    dtype = compute_dtype(spec.quantization)
    model = KernelModel(config, weights, spec.kv_dtype, BLOCK_TOKENS, dtype)
    steps = [
        *(Step.decode(n, spec.context_tokens) for n in spec.requests),
        *(Step.prefill(tokens) for tokens in spec.prompts),
    ]
    for step in steps:
        listener(f"kernels: {step.work}")
        work = KernelWork(config, spec.quantization, spec.kv_dtype, step, rates)
        yield from KernelBench(model, step, device, _graph_timer(device)).figures(work)


def _graph_timer(device: CudaDevice) -> Timer:
    def seconds(work: Work) -> float:
        with device.steps.working():
            work()  # kernels are compiled, libraries start
        graph = device.capture(work)
        with device.steps.working():
            return best_s(graph.replay, device.torch_device)

    return seconds


def alone_figures(
    bench: EngineBench, spec: GpuBenchSpec, rates: DeviceRates
) -> Iterator[GpuFigure]:
    for requests in spec.requests:
        roofline = decode_tokens_per_s(
            spec.config,
            spec.quantization,
            spec.kv_dtype,
            rates,
            requests=requests,
            context_tokens=spec.context_tokens,
        )
        found = bench.decode_tokens_per_s(requests, spec.context_tokens)
        yield GpuFigure(decode_work(requests), requests, found, roofline)
    for tokens in spec.prompts:
        roofline = prefill_tokens_per_s(spec.config, rates, tokens)
        found = bench.prefill_tokens_per_s(tokens)
        yield GpuFigure(prefill_work(tokens), tokens, found, roofline)
