"""A worker without a driver computes on the CPU, and never learns what CUDA is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from baton.common.errors import ConfigError
from baton.engine.devices import DeviceChoice, choose_device

IMPORTS = """
import sys
import baton.worker.app
import baton.worker.assembly
import baton.engine.runner
import baton.prefill.service
import baton.decode.service
from baton.engine.devices import DeviceChoice, choose_device
assert choose_device(DeviceChoice.AUTO, driver_nodes=()) is DeviceChoice.CPU
strangers = [name for name in sys.modules if name.startswith(("baton.engine.cuda", "triton"))]
strangers += ["torch"] if "torch" in sys.modules else []
print(" ".join(strangers))
"""


def test_a_cpu_worker_imports_neither_torch_nor_triton_nor_the_cuda_room() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == ""


def test_auto_takes_the_cpu_without_a_driver(tmp_path: Path) -> None:
    assert choose_device(DeviceChoice.AUTO, [tmp_path / "absent"]) is DeviceChoice.CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_driver_without_a_device_is_no_device(tmp_path: Path) -> None:
    assert choose_device(DeviceChoice.AUTO, [tmp_path]) is DeviceChoice.CPU
    with pytest.raises(ConfigError, match="no CUDA device"):
        choose_device(DeviceChoice.CUDA, [tmp_path])


def test_the_cpu_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    assert choose_device(DeviceChoice.CPU, [tmp_path]) is DeviceChoice.CPU
