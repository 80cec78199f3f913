"""Programs about our Triton kernels as compiled, for tests whose own process interprets them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


def told_by(module: str, cache: Path, *, within_s: float) -> list[dict[str, Any]]:
    """The lines of JSON that a module prints; `cache`: where what it compiles is kept."""
    variables = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "TRITON_CACHE_DIR": str(cache),
        "TRITON_DEFAULT_FP_FUSION": "1",  # as Triton has it, without its warning
        "PYTHONPATH": str(TESTS),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", module]
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=within_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
