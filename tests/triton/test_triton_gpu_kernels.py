"""The bench of kernels, kind by kind: on the fake device each kind's kernels run as they are
captured, over memory of their own, and write KV where the step's block tables say.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from baton.engine.cuda.load import compute_dtype, load_weights
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.random_weights import RandomWeights
from baton.model.config import ModelConfig
from baton_loadtest.gpu_kernels import KernelBench, KernelModel
from baton_loadtest.gpu_roofline import DeviceRates
from baton_loadtest.gpu_work import KernelWork, Step
from support.fake_device import FakeDevice
from support.random_model import CONFIG, MIXTURE

RATES = DeviceRates(1e12, 1e14)
BLOCK_SIZE = 16
SECONDS = 0.5


def captured(device: FakeDevice) -> Callable[[Callable[[], object]], float]:
    """A timer that does with work what a device's timer does."""

    def timed(work: Callable[[], object]) -> float:
        device.capture(work).replay()
        return SECONDS

    return timed


@pytest.mark.parametrize("step", [Step.decode(3, 40), Step.prefill(20)], ids=lambda one: one.work)
@pytest.mark.parametrize(
    ("config", "quantization", "kv_dtype"),
    [
        (CONFIG, Quantization.BF16, "bfloat16"),
        (CONFIG, Quantization.INT8, "int8"),
        (MIXTURE, Quantization.NONE, "float32"),
    ],
    ids=["bf16", "int8", "mixture"],
)
def test_every_kind_runs_as_in_a_step(
    config: ModelConfig, quantization: Quantization, kv_dtype: str, step: Step
) -> None:
    device = FakeDevice()
    source = RandomWeights(config, 1)
    weights = load_weights(source, config, quantization, rows_max=step.rows, device=device)
    model = KernelModel(config, weights, kv_dtype, BLOCK_SIZE, compute_dtype(quantization))
    bench = KernelBench(model, step, device, captured(device))
    found = bench.figures(KernelWork(config, quantization, kv_dtype, step, RATES))
    kinds = {one.kernel: one for one in found}
    dense = {"gate and up", "activation", "down"}
    assert set(kinds) == {
        *("qkv", "rope and KV store", "attention", "output", "norms", "head"),
        *({"experts"} if config.experts else dense),
    }
    assert device.captured == device.replayed == len(kinds)
    for name, one in kinds.items():
        assert (one.work, one.seconds) == (step.work, SECONDS)
        small = name in ("rope and KV store", "activation", "norms")
        assert (one.of_limit is None) == small, one


def test_kv_is_written_at_the_end_of_each_context_and_nowhere_else() -> None:
    device, step = FakeDevice(), Step.decode(2, 20)
    config = replace(CONFIG, layers=1)
    weights = load_weights(
        RandomWeights(config, 1), config, Quantization.NONE, rows_max=2, device=device
    )
    model = KernelModel(config, weights, "float32", BLOCK_SIZE, torch.float32)
    bench = KernelBench(model, step, device, captured(device))
    cache = bench.cache.layer(0).keys.flatten(0, 1)  # [slots, kv_heads, head_size]
    before = cache.clone()
    assert torch.isfinite(before).all()
    list(bench.figures(KernelWork(config, Quantization.NONE, "float32", step, RATES)))
    changed = [slot for slot in range(len(cache)) if not torch.equal(cache[slot], before[slot])]
    assert changed == [19, 2 * BLOCK_SIZE + 19]
