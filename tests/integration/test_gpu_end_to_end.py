"""The GPU's bench end to end, on this processor: a model of random weights, a stack of three real
processes on it, and every figure but the device's own."""

from pathlib import Path

from baton.common.clock import SystemClock
from baton.engine.devices import DeviceChoice
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.model.config import Family, ModelConfig
from baton_loadtest.gpu_end_to_end import HANDOFFS, measure_end_to_end
from baton_loadtest.gpu_report import EndToEndFound
from baton_loadtest.gpu_spec import GpuBenchSpec
from baton_loadtest.workload import TOKEN_ID_END

# Its answers take long enough to be under way together.
SMALL = ModelConfig(
    family=Family.LLAMA,
    vocab_size=TOKEN_ID_END,
    hidden_size=256,
    intermediate_size=512,
    layers=4,
    heads=4,
    kv_heads=2,
    head_size=64,
    context_length=1_024,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
)
CONTEXT = 256


async def test_a_stack_on_random_weights_gives_every_figure(tmp_path: Path) -> None:
    spec = GpuBenchSpec(
        config=SMALL,
        quantization=Quantization.NONE,
        kv_cache_dtype=KvCacheDtype.AUTO,
        memory_fraction=0.9,
        requests=(1, 3),
        context_tokens=CONTEXT,
        prompts=(100,),
    )
    log, heard, told = tmp_path / "stack.log", list[str](), list[EndToEndFound]()
    await measure_end_to_end(
        spec,
        device=DeviceChoice.CPU,
        log=log,
        clock=SystemClock(),
        listener=heard.append,
        found=told.append,
    )
    found = told[-1]
    assert found.handoff is not None
    assert all(rate > 0 for rate in found.tokens_per_s.values())
    assert set(found.tokens_per_s) == {
        "prefill, 100 tokens",
        "decode, 1 at once",
        "decode, 3 at once",
    }
    assert found.prompts["cached"] == 4  # those that decode was measured on
    # keys and values of every prompt, whole, in float32
    prompt_tokens = CONTEXT - 64
    token_bytes = 2 * SMALL.layers * SMALL.kv_heads * SMALL.head_size * 4
    assert found.handoff.moved_bytes == prompt_tokens * token_bytes
    assert (found.handoff.prompts, found.handoff.prompt_tokens) == (HANDOFFS, prompt_tokens)
    assert 0 < found.handoff.prefill_s < found.handoff.called_s
    said = log.read_text()
    assert all(f'"process": "{name}"' in said for name in ("prefill", "decode", "router"))
    assert "finished" in said
    # hand-off, three rates, and where the prompts went
    assert (len(told), len(heard)) == (5, 7)
