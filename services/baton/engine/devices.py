"""Which device a worker computes on, decided before torch is imported where that can be.

Knows how a driver shows itself; knows no device.
"""

from collections.abc import Iterable
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from baton.common.errors import ConfigError

DRIVER_NODES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of them is there wherever a CUDA driver is: on Linux, and on Linux under Windows."""


class DeviceChoice(Enum):
    """Of `--device`."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def choose_device(
    choice: DeviceChoice, driver_nodes: Iterable[Path] = DRIVER_NODES
) -> DeviceChoice:
    """CPU or CUDA. Torch is imported only where a driver is, or CUDA is asked for.

    Raises ConfigError where what is asked for is not there.
    """
    if choice is DeviceChoice.CPU:
        return choice
    asked = choice is DeviceChoice.CUDA
    if not asked and not any(node.exists() for node in driver_nodes):
        return DeviceChoice.CPU
    if find_spec("torch") is not None and find_spec("triton") is not None:
        import torch

        if torch.cuda.is_available():
            return DeviceChoice.CUDA
    if asked:
        raise ConfigError(["device cuda: torch and Triton see no CUDA device here; choose cpu"])
    return DeviceChoice.CPU
