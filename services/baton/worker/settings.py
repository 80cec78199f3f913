"""What a worker process can be told, prefill or decode. Frozen; read from flags and environment.

Knows names, limits and defaults; knows neither models nor devices.
"""

from dataclasses import dataclass
from pathlib import Path

from baton.common.config import setting
from baton.common.errors import ConfigError
from baton.engine.devices import DeviceChoice
from baton.engine.kernels.selection import Kernels
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.speculation import Speculation
from baton.rpc.identity_files import TlsFiles, tls_files

STEP_TOKENS = {DeviceChoice.CPU: 128, DeviceChoice.CUDA: 2_048}
"""On a CPU core 128 rows already fill its arithmetic, on a large GPU a thousand or two; more only
makes those wait who share the step."""

BACKLOG_STEP_TOKENS = {DeviceChoice.CPU: 256, DeviceChoice.CUDA: 2_048}
"""Where decodes go along with prompts: they are a small part of such a step."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """A Baton worker: computes prompts (prefill) or answers (decode) for one model."""

    port: int = setting("gRPC port", at_least=1, at_most=65_535)
    model: str = setting("model reference: pip://..., hf://... or file://...")
    model_name: str = setting("the name clients ask for")
    host: str = setting("address to listen on", default="127.0.0.1")
    quantization: Quantization = setting(  # noqa: RUF009
        "how linear layers compute; must be equal on workers that hand over to each other",
        default=Quantization.NONE,
    )
    cache_dir: Path = setting("where pulled models are kept", default=Path("~/.cache/baton"))  # noqa: RUF009
    device: DeviceChoice = setting(  # noqa: RUF009
        "where the model is computed: auto takes a CUDA device where there is one",
        default=DeviceChoice.AUTO,
    )
    memory_fraction: float = setting(
        "of a CUDA device's memory, whoever uses it: what weights and work space leave of it holds"
        " KV blocks; a CPU worker has kv_cache_mib",
        default=0.9,
        at_least=0.05,
        at_most=1.0,
    )
    threads: int = setting(
        "CPU threads; 1 because workers that share cores wait for each other at every layer",
        default=1,
        at_least=1,
    )
    niceness: int = setting(
        "how far steps stand back for others on their cores while prompts are awaited from prefill"
        " workers, as nice(1) counts; of our own kernels on Linux only",
        default=0,
        at_least=0,
        at_most=19,
    )
    kernels: Kernels = setting(  # noqa: RUF009
        "auto: our C++ kernels where the machine can build and run them, else torch; torch: never",
        default=Kernels.AUTO,
    )
    block_size: int = setting(
        "tokens per KV block; 16 is what most models and caches use",
        default=16,
        at_least=1,
        at_most=1_024,
    )
    kv_cache_dtype: KvCacheDtype = setting(  # noqa: RUF009
        "what KV blocks hold: float32, bfloat16, int8, or auto (float32 with quantization none,"
        " int8 with int8 where blocks and heads are multiples of 16, else bfloat16); must be equal"
        " on workers that hand over to each other",
        default=KvCacheDtype.AUTO,
    )
    kv_cache_mib: int = setting(
        "memory for KV blocks of a CPU worker, MiB; 1024 holds some 20,000 tokens of a 135M model"
        " in float32",
        default=1_024,
        at_least=1,
    )
    step_tokens_max: int | None = setting(
        "tokens per engine step; nobody waits longer than that step, neither a decode in the batch"
        " nor a cancel (none: 128 on a CPU, or up to 256 of prompts behind decodes, half a"
        " second at most; 2048 on a CUDA device; a token per request at least)",
        default=None,
        at_least=1,
    )
    sequences_max: int = setting("requests in a step at once", default=64, at_least=1)
    queue_requests_max: int = setting(
        "requests waiting for their first step; more are refused", default=1_024, at_least=1
    )
    queue_tokens_max: int = setting(
        "prompt tokens of waiting requests; more are refused", default=1_048_576, at_least=1
    )
    drain_timeout_s: float = setting(
        "seconds running requests may take after SIGTERM; below Kubernetes' grace of 30 s",
        default=25.0,
        at_least=0.0,
    )
    speculation: Speculation = setting(  # noqa: RUF009
        "where decode's guesses at coming tokens come from: none, prompt-lookup or draft-model;"
        " they never change an answer, and stop where they do not pay",
        default=Speculation.NONE,
    )
    draft_model: str | None = setting(
        "reference of the draft model, of the same vocabulary; its KV comes on top of kv_cache_mib,"
        " and out of memory_fraction on a CUDA device",
        default=None,
    )
    guesses_max: int = setting(
        "guesses per request and step; beyond five even good ones seldom pay",
        default=5,
        at_least=1,
        at_most=16,
    )
    metrics_port: int = setting(
        "HTTP port of /metrics, /live and /ready; 0: none", default=0, at_least=0, at_most=65_535
    )
    tls_dir: Path | None = setting(  # noqa: RUF009
        "directory of ca.crt, tls.crt and tls.key: gRPC asks both sides for a certificate; files"
        " may be replaced at any time (none: plaintext, for one machine)",
        default=None,
    )
    tls_name: str | None = setting(
        "DNS name that every peer's certificate must carry; goes with tls_dir", default=None
    )

    def step_tokens(self, device: DeviceChoice) -> int:
        """Tokens per engine step on a device of this kind."""
        return self.step_tokens_max or max(STEP_TOKENS[device], self.sequences_max)

    def backlog_step_tokens(self, device: DeviceChoice) -> int:
        """The same where decodes go along with prompts."""
        return self.step_tokens_max or max(BACKLOG_STEP_TOKENS[device], self.sequences_max)

    def prompts_together(self, device: DeviceChoice) -> int:
        """Prompts computed side by side where no decode goes along: one per thread, where steps
        are as long as we like."""
        return self.threads if device is DeviceChoice.CPU and self.step_tokens_max is None else 1

    @property
    def tls(self) -> TlsFiles | None:
        return tls_files(self.tls_dir, self.tls_name)

    def __post_init__(self) -> None:
        problems = []
        if self.step_tokens_max is not None and self.step_tokens_max < self.sequences_max:
            problems.append(
                f"step_tokens_max ({self.step_tokens_max}) is below sequences_max"
                f" ({self.sequences_max}): every request needs a token per step"
            )
        if (self.speculation is Speculation.DRAFT_MODEL) != (self.draft_model is not None):
            problems.append("speculation draft-model and a draft_model go together")
        if (self.tls_dir is None) != (self.tls_name is None):
            problems.append("tls_dir and tls_name go together")
        if problems:
            raise ConfigError(problems)
