"""`baton-loadtest gpu` on a machine without a GPU: one line, a failure, and no Triton."""

import os
import subprocess
import sys
from pathlib import Path


def test_without_a_gpu_it_says_so_and_leaves_triton_alone(tmp_path: Path) -> None:
    (tmp_path / "triton.py").write_text("raise SystemExit('Triton was imported')\n")
    run = subprocess.run(
        [sys.executable, "-m", "baton_loadtest.gpu_command"],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == "baton-loadtest: there is no CUDA device to measure on this machine\n"
