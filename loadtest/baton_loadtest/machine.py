"""What a number was measured on, in one line, and of which commit.

Reads the system; knows nothing of the measurement.
"""

import os
import platform
import subprocess
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")


def machine_line() -> str:
    """CPU model and usable cores, such as `Intel(R) Xeon(R) Processor, 2 cores, Linux`."""
    return f"{cpu_model()}, {usable_cores()} cores, {platform.system()}"


def device_line() -> str:
    """The same for work on a CUDA device, which torch and Triton must see."""
    import torch
    import triton

    name = torch.cuda.get_device_name()
    return f"{name}, torch {torch.__version__}, Triton {triton.__version__}, {machine_line()}"


def checkout_commit() -> str:
    """Of the working tree, marked where it has changes; "unknown" outside a repository."""
    git = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        described = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def cpu_model() -> str:
    if CPU_FACTS.exists():
        for line in CPU_FACTS.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
