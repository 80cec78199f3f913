"""What a worker can be told, and what it says when told nonsense."""

from pathlib import Path

import pytest
from baton.common.config import read_settings
from baton.common.errors import ConfigError
from baton.engine.devices import DeviceChoice
from baton.engine.quant.quantization import Quantization
from baton.rpc.identity_files import TlsFiles
from baton.worker.settings import WorkerSettings

NEEDED = ["--port", "7001", "--model", "file:///m.gguf", "--model-name", "m"]


def read(*argv: str, **environ: str) -> WorkerSettings:
    return read_settings(WorkerSettings, [*NEEDED, *argv], environ, program="baton.decode")


def test_what_the_local_stack_passes_is_understood() -> None:
    settings = read("--quantization", "int8", "--threads", "2", "--cache-dir", "/models")
    assert (settings.port, settings.model, settings.model_name) == (7001, "file:///m.gguf", "m")
    assert settings.quantization is Quantization.INT8
    assert (settings.threads, settings.cache_dir) == (2, Path("/models"))


def test_the_environment_fills_in() -> None:
    assert read(BATON_CACHE_DIR="/env").cache_dir == Path("/env")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        read("--block-size", "0", "--threads", "many", "--colour", "red")
    assert len(raised.value.problems) == 4  # --colour and its value are two unknown words


def test_certificates_need_their_name_and_the_name_its_certificates() -> None:
    assert read().tls is None
    secured = read("--tls-dir", "/tls", "--tls-name", "m.default.baton")
    assert secured.tls == TlsFiles(Path("/tls"), "m.default.baton")
    for alone in (("--tls-dir", "/tls"), ("--tls-name", "m.default.baton")):
        with pytest.raises(ConfigError, match="tls_dir and tls_name"):
            read(*alone)


def test_prompts_go_side_by_side_on_threads_of_their_own_and_in_steps_of_any_length() -> None:
    assert read("--threads", "4").prompts_together(DeviceChoice.CPU) == 4
    assert read("--threads", "4").prompts_together(DeviceChoice.CUDA) == 1
    bounded = read("--threads", "4", "--step-tokens-max", "128")
    assert bounded.prompts_together(DeviceChoice.CPU) == 1


def test_a_budget_below_the_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="step_tokens_max"):
        read("--step-tokens-max", "8", "--sequences-max", "16")
