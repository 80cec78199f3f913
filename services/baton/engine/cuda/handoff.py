"""KV of a device's cache on its way to another worker and back: the KvStore of a CUDA worker.

Blocks are gathered and put in the order they travel in on the device, on a lane of their own, and
pass through two pinned buffers: while one is copied, the other is read or filled. Steps go on
meanwhile. Knows both orders; knows no peer.
"""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from baton.common.errors import TransferCorrupt
from baton.engine.cuda.device import Device, Event, Pinned
from baton.engine.cuda.kvcache import DeviceKvCache
from baton.engine.cuda.wire import WireBlocks

CHUNK_BYTES = 4 * 1024 * 1024
"""Of a pinned buffer: a copy of this size has reached the bus's full speed, and it is what a frame
of the hand-off carries."""

BUFFERS = 2


class _Buffer:
    """One way through: device memory in wire order and pinned memory of the same size."""

    def __init__(self, device: Device, nbytes: int) -> None:
        self.staged = torch.zeros(nbytes, dtype=torch.uint8, device=device.torch_device)
        self.pinned: Pinned = device.pin(nbytes)


class DeviceKvStore:
    """Implements KvStore: [layer][k,v][block][side of a block], as CPU workers send them.

    Any thread may call; one call at a time is served.
    """

    def __init__(
        self, cache: DeviceKvCache, device: Device, *, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        self._wire = WireBlocks(cache)
        self._device, self._lane = device, device.transfers
        self.block_bytes = cache.block_bytes
        self._step = max(1, chunk_bytes // cache.block_bytes)  # blocks of a chunk
        self._buffers = [_Buffer(device, self._step * cache.block_bytes) for _ in range(BUFFERS)]
        self._ids = torch.zeros(cache.block_count, dtype=torch.int64, device=device.torch_device)
        self._pinned_ids = device.pin(self._ids.nbytes)
        self._lock = threading.Lock()

    @property
    def pinned_bytes(self) -> int:
        """All the host memory that transfers ever hold."""
        return sum(buffer.pinned.nbytes for buffer in self._buffers) + self._pinned_ids.nbytes

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        """The blocks' bytes; the steps that computed them have been collected."""
        sides, side_bytes = self._wire.sides, self._wire.side_bytes
        found = np.empty((sides, len(block_ids), side_bytes), np.uint8)
        with self._lock:
            self._send_ids(block_ids)
            underway: list[tuple[slice, _Buffer, Event]] = []
            for part, buffer in self._chunks(len(block_ids)):
                if len(underway) == BUFFERS:
                    self._take(underway.pop(0), found)
                staged = buffer.staged[: (part.stop - part.start) * self.block_bytes]
                with self._lane.working():
                    self._wire.gather(self._ids[part], staged)
                underway.append((part, buffer, self._lane.fetch(staged, buffer.pinned)))
            for arriving in underway:
                self._take(arriving, found)
        return found.tobytes()

    def touch(self) -> bool:
        """A device's memory is there from the start."""
        return False

    def write_blocks(self, block_ids: Sequence[int], payload: bytes) -> None:
        """The reverse; returns when the blocks may be read. Raises TransferCorrupt for a payload of
        another size."""
        expected = len(block_ids) * self.block_bytes
        if len(payload) != expected:
            raise TransferCorrupt(
                f"payload of {len(payload)} bytes for {len(block_ids)} blocks, expected {expected}"
            )
        shape = (self._wire.sides, len(block_ids), self._wire.side_bytes)
        blocks = np.frombuffer(payload, np.uint8).reshape(shape)
        with self._lock:
            self._send_ids(block_ids)
            events: list[Event] = []
            for part, buffer in self._chunks(len(block_ids)):
                if len(events) >= BUFFERS:
                    events[-BUFFERS].wait()  # the buffer's last chunk has left it
                nbytes = (part.stop - part.start) * self.block_bytes
                _fill(buffer.pinned, blocks[:, part])
                staged = buffer.staged[:nbytes]
                self._lane.upload(buffer.pinned, staged)
                with self._lane.working():
                    self._wire.scatter(staged, self._ids[part])
                events.append(self._lane.mark())
            for event in events[-BUFFERS:]:
                event.wait()

    def _send_ids(self, block_ids: Sequence[int]) -> None:
        count = len(block_ids)
        self._pinned_ids.array[: 8 * count].view(np.int64)[:] = block_ids
        self._lane.upload(self._pinned_ids, self._ids[:count]).wait()

    def _chunks(self, count: int) -> Iterator[tuple[slice, _Buffer]]:
        for number, first in enumerate(range(0, count, self._step)):
            yield slice(first, min(first + self._step, count)), self._buffers[number % BUFFERS]

    def _take(self, arriving: tuple[slice, _Buffer, Event], found: NDArray[np.uint8]) -> None:
        part, buffer, event = arriving
        event.wait()
        shape = (len(found), part.stop - part.start, found.shape[2])
        nbytes = shape[0] * shape[1] * shape[2]
        found[:, part] = buffer.pinned.array[:nbytes].reshape(shape)


def _fill(pinned: Pinned, blocks: NDArray[np.uint8]) -> None:
    """blocks [sides, B, side_bytes] -> the first bytes of `pinned`."""
    pinned.array[: blocks.size].reshape(blocks.shape)[:] = blocks
