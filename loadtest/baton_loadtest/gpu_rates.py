"""How fast this device copies and multiplies: the two rates every other figure is held against.

Measured in the same run as what is compared with them. Knows torch; knows no models.
"""

from collections.abc import Callable

import torch

from baton_loadtest.gpu_roofline import DeviceRates

COPY_BYTES = 4 << 30
"""Far beyond any cache: an H200's has 50 MiB."""

MATRIX_SIZE = 8_192
"""Of three square matrices: each product takes milliseconds, launching it some microseconds."""

WARMUPS = 3
ROUNDS = 10
"""The best of them counts: a rate is what the device can do."""


def measure_rates(device: torch.device) -> DeviceRates:
    """Takes some 8 GiB of the device for a second."""
    return DeviceRates(_copy_bytes_per_s(device), _matrix_flop_per_s(device))


def _copy_bytes_per_s(device: torch.device) -> float:
    source = torch.empty(COPY_BYTES // 4, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / best_s(lambda: target.copy_(source), device)


def _matrix_flop_per_s(device: torch.device) -> float:
    """Of random numbers: on zeros a device draws less power, and runs faster than on any model."""
    left, right, out = (
        torch.empty(MATRIX_SIZE, MATRIX_SIZE, dtype=torch.bfloat16, device=device).normal_()
        for _ in range(3)
    )
    return 2 * MATRIX_SIZE**3 / best_s(lambda: torch.mm(left, right, out=out), device)


def best_s(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the device's own clock."""
    for _ in range(WARMUPS):
        work()
    found: list[float] = []
    for _ in range(ROUNDS):
        began, ended = _timed_event(), _timed_event()
        began.record()
        work()
        ended.record()
        torch.cuda.synchronize(device)
        found.append(began.elapsed_time(ended) / 1e3)
    return min(found)


def _timed_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
