"""An engine on the device, a mixture of experts, from its first graph to its last token: on the
fake device it says what the engine of this processor says. `make bench-gpu` measures this one.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from baton.common.clock import SystemClock
from baton.common.errors import EngineFailure
from baton.engine.cuda.build import RunnerSpec
from baton.engine.cuda.shapes import DeviceRandomWeights
from baton.engine.messages import StepReport
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import build_runner
from baton.engine.weights.open import open_weights
from baton.engine.weights.parts import ExpertPart, Part, expert_shape, part_shape
from baton.engine.weights.random_weights import RandomWeights
from baton.model.card import read_config
from baton.model.ggml import GgmlType
from baton_loadtest.gpu_alone import alone_figures
from baton_loadtest.gpu_bench import EngineBench
from baton_loadtest.gpu_engine import gpu_engine
from baton_loadtest.gpu_roofline import DeviceRates
from baton_loadtest.gpu_spec import GpuBenchSpec
from baton_loadtest.local_engine import greedy, local_engine
from support.counted_experts import CountedExperts
from support.fake_device import FakeDevice
from support.random_model import CONFIG, MIXTURE, random_runner
from support.tiny_moe import tiny_moe


def test_a_mixture_says_on_the_device_what_it_says_on_the_processor() -> None:
    spec = RunnerSpec(
        quantization=Quantization.NONE,
        kv_dtype="float32",
        block_size=16,
        rows_max=2,
        sequences_max=2,
        memory_fraction=0.9,
    )
    heard: list[str] = []
    engine = gpu_engine(
        RandomWeights(MIXTURE, 1), MIXTURE, spec, FakeDevice(), lambda what, *_: heard.append(what)
    )
    assert set(heard) == {"weights", "steps", "graphs"}
    prompts = [[5, 9, 30], [7]]
    expected = greedy(local_engine(random_runner(MIXTURE, block_size=16)), prompts, 4)
    assert greedy(engine, prompts, 4) == expected
    engine.audit()


def test_a_mixture_out_of_a_gguf_file_says_so_too(tmp_path: Path) -> None:
    model = tiny_moe(tmp_path / "m.gguf", gate_up=GgmlType.Q8_0, down=GgmlType.Q8_0)
    config = replace(read_config(model), context_length=64)
    spec = RunnerSpec(
        quantization=Quantization.NONE,
        kv_dtype="float32",
        block_size=16,
        rows_max=4,
        sequences_max=2,
        memory_fraction=0.9,
    )
    with open_weights(model, config) as source:
        counted = CountedExperts(source)
        engine = gpu_engine(counted, config, spec, FakeDevice(), lambda *_: None)
    assert counted.held_max == 2  # the next is there when the one before is let go
    runner = build_runner(
        model, config, quantization=spec.quantization, block_count=16, block_size=16, threads=1
    )
    prompts = [[5, 9, 30], [7]]
    assert greedy(engine, prompts, 4) == greedy(local_engine(runner), prompts, 4)


def test_weights_of_a_shape_alone_have_its_shapes_and_keep_activations_their_size() -> None:
    source = DeviceRandomWeights(MIXTURE, 0, torch.device("cpu"))
    for part in Part:
        tensor = source.fetch(part, 0)
        assert tensor.shape == part_shape(part, MIXTURE)
    for matrix in ExpertPart:
        assert source.fetch_expert(matrix, 0, 1).shape == expert_shape(matrix, MIXTURE)
    assert abs(source.fetch(Part.EMBEDDING).std().item() - MIXTURE.hidden_size**-0.5) < 0.01
    assert abs(source.fetch(Part.ATTENTION_NORM, 0).mean().item() - 1.0) < 0.1
    assert abs(source.fetch(Part.Q_BIAS, 0).mean().item()) < 0.1


def test_each_figure_of_the_engine_alone_is_known_before_the_next_is_measured() -> None:
    spec = GpuBenchSpec(
        config=CONFIG,
        quantization=Quantization.NONE,
        kv_cache_dtype=KvCacheDtype.AUTO,
        memory_fraction=0.9,
        requests=(1, 2),
        context_tokens=12,
        prompts=(24,),
    )
    engine = local_engine(random_runner())
    bench = EngineBench(engine, CONFIG.vocab_size, SystemClock(), output_tokens=6)
    figures = alone_figures(bench, spec, DeviceRates(1e12, 1e14))
    assert next(figures).work == "decode, 1 at once"
    engine.step = broken  # type: ignore[method-assign]
    with pytest.raises(EngineFailure, match="a step failed"):
        next(figures)


def broken() -> StepReport:
    raise EngineFailure("a step failed")
