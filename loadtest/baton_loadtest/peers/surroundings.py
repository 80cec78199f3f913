"""What a comparison was measured on, in one line: processor, cores, kernel, versions, commit.

Reads the system; knows nothing of the measurement.
"""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from baton_loadtest.machine import CPU_FACTS, cpu_model, usable_cores
from baton_loadtest.peers import llama_cpp, vllm_cpu

TELLING_FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16"),
)
"""Those that decide which matrix kernels a server can use."""

GIT_LIMIT_S = 10.0


def cpu_flags() -> tuple[str, ...]:
    """All features of the first core; empty where the system does not tell."""
    if CPU_FACTS.exists():
        for line in CPU_FACTS.read_text().splitlines():
            if line.startswith("flags"):
                return tuple(line.partition(":")[2].split())
    return ()


def telling(flags: tuple[str, ...]) -> str:
    return " ".join(flag for flag in TELLING_FLAGS if flag in flags) or "none known"


def surroundings_line() -> str:
    return ", ".join(
        (
            f"{cpu_model()} ({telling(cpu_flags())})",
            f"{usable_cores()} cores",
            f"{platform.system()} {platform.release()}",
            f"Python {platform.python_version()}",
            f"torch {version('torch')}",
            f"vllm-cpu {vllm_cpu.VERSION}",
            f"{llama_cpp.PACKAGE} {llama_cpp.VERSION}",
            f"Baton {version('baton')} at {commit(Path(__file__).parent)}",
        )
    )


def commit(folder: Path) -> str:
    """The checkout's commit, marked when files differ from it; "no commit" outside one."""
    git = ("git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*")
    try:
        said = subprocess.run(
            git, capture_output=True, text=True, check=True, timeout=GIT_LIMIT_S
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return "no commit"
    return said.strip()


def load_average() -> float:
    """Processes that wanted a core, over the last minute."""
    return os.getloadavg()[0]
