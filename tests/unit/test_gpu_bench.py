"""The bench of an engine alone, on a small engine of this processor: what its figures count."""

import json
from dataclasses import replace

import pytest
from baton.common.errors import ConfigError, EngineFailure
from baton.engine.messages import Tokens
from baton.engine.params import FinishReason
from baton_loadtest.gpu_bench import EngineBench
from baton_loadtest.gpu_command import require_device
from baton_loadtest.gpu_report import GpuFigure, GpuReport, gpu_json
from baton_loadtest.gpu_roofline import DeviceRates
from baton_loadtest.local_engine import local_engine
from support.random_model import CONFIG, random_runner


class StepClock:
    """A second passes between two looks."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic_s(self) -> float:
        self._now_s += 1.0
        return self._now_s

    def unix_s(self) -> float:
        return self.monotonic_s()


@pytest.fixture
def bench() -> EngineBench:
    engine = local_engine(random_runner())
    return EngineBench(engine, CONFIG.vocab_size, StepClock(), output_tokens=6)


@pytest.mark.parametrize("requests", [1, 3])
def test_decode_counts_tokens_between_the_first_of_all_and_the_last_of_any(
    requests: int, bench: EngineBench
) -> None:
    """A step a second, a token for each request a step."""
    assert bench.decode_tokens_per_s(requests, 12) == requests


def test_prefill_counts_a_prompt_to_its_first_token_and_finds_none_in_the_cache(
    bench: EngineBench,
) -> None:
    assert bench.prefill_tokens_per_s(24) == 24.0
    assert bench.prefill_tokens_per_s(24) == 24.0


def test_a_request_that_fails_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = local_engine(random_runner())
    broken = Tokens("1", finish=FinishReason.ERROR, error="the logits are not finite")
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda: replace(step(), events=(broken,)))
    bench = EngineBench(engine, CONFIG.vocab_size, StepClock(), output_tokens=6)
    with pytest.raises(EngineFailure, match="not finite"):
        bench.decode_tokens_per_s(1, 12)


def test_every_figure_is_kept_beside_its_roofline() -> None:
    report = GpuReport(
        machine="a machine",
        commit="0a1b2c3",
        shape="llama-3.1-8b",
        quantization="bf16",
        kv_dtype="bfloat16",
        context_tokens=1_024,
        rates=DeviceRates(4e12, 7e14),
        figures=[GpuFigure("decode, 1 at once", 1, 120.0, 240.0)],
    )
    kept = json.loads(gpu_json(report))
    assert kept["figures"][0] == {
        "work": "decode, 1 at once",
        "tokens": 1,
        "tokens_per_s": 120.0,
        "roofline_tokens_per_s": 240.0,
        "of_roofline": 0.5,
    }
    assert kept["rates"]["copy_bytes_per_s"] == 4e12
    assert (kept["commit"], kept["machine"]) == ("0a1b2c3", "a machine")


def test_without_a_device_the_bench_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="no CUDA device"):
        require_device()
