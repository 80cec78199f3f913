"""vLLM's own load client, the same for every server: how it is called and what it says.

Pure but for reading its result. Decoding is greedy everywhere, and no two runs on one server share
a prompt, so that no cache of prefixes answers for the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from baton.common.errors import Unavailable

from baton_loadtest.peers import vllm_cpu
from baton_loadtest.peers.environments import PythonEnvironment
from baton_loadtest.peers.process import Command

PROMPT_TOKENS, OUTPUT_TOKENS = 256, 128

RUN_LIMIT_S = 1_800.0
"""96 requests at 20 tokens per second, half of what the slowest peer did on two busy cores, and
half a minute for the client to start."""

KEPT = (
    *("duration", "completed", "failed", "total_input_tokens", "total_output_tokens"),
    *("output_throughput", "request_throughput", "max_concurrency", "num_prompts", "date"),
    *("mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms"),
    *("mean_itl_ms", "median_itl_ms", "p99_itl_ms"),
)
"""Of the client's result. The rest is one entry per request or per token, megabytes of it."""

ERROR_CHARS_MAX = 300
ERRORS_MAX = 5


@dataclass(frozen=True, slots=True)
class Load:
    concurrency: int
    prompts: int
    seed: int  # of the prompts


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of the client. Times in seconds."""

    output_tokens_per_s: float
    ttft_mean_s: float
    itl_mean_s: float
    itl_p99_s: float
    completed: int  # requests
    failed: int


@dataclass(frozen=True, slots=True)
class LoadCommand:
    environment: PythonEnvironment  # that has vLLM
    tokenizer: Path  # a Hugging Face folder

    def command(self, url: str, model_name: str, load: Load, result: Path) -> Command:
        """Writes `result`."""
        arguments = (
            *("--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions"),
            *("--model", model_name, "--tokenizer", str(self.tokenizer)),
            *("--dataset-name", "random", "--ignore-eos", "--temperature", "0"),
            *("--random-input-len", str(PROMPT_TOKENS)),
            *("--random-output-len", str(OUTPUT_TOKENS)),
            *("--seed", str(load.seed), "--num-prompts", str(load.prompts)),
            *("--max-concurrency", str(load.concurrency)),
            *("--percentile-metrics", "ttft,itl", "--metric-percentiles", "99"),
            *("--disable-tqdm", "--save-result", "--save-detailed"),
            *("--result-dir", str(result.parent), "--result-filename", result.name),
        )
        argv = vllm_cpu.vllm(self.environment, "bench", "serve", *arguments)
        return Command(argv, RUN_LIMIT_S, vllm_cpu.quiet_environment())


def read_result(path: Path) -> Mapping[str, object]:
    """The client's JSON, reduced to what is kept. Raises Unavailable when it left none."""
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Unavailable(f"the client left no result: {type(error).__name__}") from error
    if not isinstance(said, dict):
        raise Unavailable("the client's result is not an object")
    return reduced(said)


def reduced(said: Mapping[str, object]) -> dict[str, object]:
    kept = {name: said[name] for name in KEPT if name in said}
    errors = said.get("errors")
    if isinstance(errors, list):
        words = sorted({_last_line(error)[-ERROR_CHARS_MAX:] for error in errors if error})
        kept["errors"] = words[:ERRORS_MAX]
    return kept


def measurement(result: Mapping[str, object], load: Load) -> Measurement:
    """Raises Unavailable when no request came through or a number is missing."""
    completed = int(_number(result, "completed"))
    if completed == 0:
        raise Unavailable(f"no request of {load.prompts} came through: {result.get('errors')}")
    return Measurement(
        output_tokens_per_s=_number(result, "output_throughput"),
        ttft_mean_s=_number(result, "mean_ttft_ms") / 1000,
        itl_mean_s=_number(result, "mean_itl_ms") / 1000,
        itl_p99_s=_number(result, "p99_itl_ms") / 1000,
        completed=completed,
        failed=load.prompts - completed,
    )


def _last_line(error: object) -> str:
    """What went wrong; of a traceback, the lines before it only name places on this machine."""
    return str(error).strip().rpartition("\n")[2]


def _number(result: Mapping[str, object], name: str) -> float:
    value = result.get(name)
    if not isinstance(value, int | float):
        raise Unavailable(f"the client's result has no number {name}")
    return float(value)


def as_json(result: Mapping[str, object]) -> str:
    return json.dumps(result, indent=1) + "\n"
