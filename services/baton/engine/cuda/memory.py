"""How many KV blocks a device has room for, and how much a graph takes. Pure arithmetic.

Knows bytes; asks nobody for them.
"""

from dataclasses import dataclass

from baton.common.errors import ConfigError

MIB = 1024 * 1024

SPARE_BYTES = 256 * MIB
"""Left free whatever the fraction: libraries make their own work space at the first step of a
kind, and a transfer converts some blocks at a time."""

BLOCKS_MIN = 2
"""Fewer hold no request of more than a block."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Of the whole device, whoever uses it. Bytes."""

    free: int
    total: int


def pool_blocks(
    memory: DeviceMemory, *, fraction: float, reserved_bytes: int, block_bytes: int
) -> int:
    """Blocks that fit what may be used and is free, beside `reserved_bytes` yet to be taken.

    `fraction` is of the whole device, whoever else uses it. Raises ConfigError where nothing fits.
    """
    taken = memory.total - memory.free
    allowed = min(int(memory.total * fraction), memory.total - SPARE_BYTES)
    blocks = (allowed - taken - reserved_bytes) // block_bytes
    if blocks < BLOCKS_MIN:
        raise ConfigError(
            [
                f"memory_fraction: {fraction:g} of {memory.total // MIB} MiB leaves no room for KV"
                f" blocks: {taken // MIB} MiB are taken by weights, work space and others,"
                f" {reserved_bytes // MIB} MiB are kept for graphs"
            ]
        )
    return blocks


def graphs_bytes(before: DeviceMemory, after: DeviceMemory, *, captured: int, wanted: int) -> int:
    """What `wanted` graphs will take, given the memory before and after capturing some."""
    used = max(0, before.free - after.free)
    return -(-used * wanted // captured)
