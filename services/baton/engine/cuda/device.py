"""What the runner needs of a device besides kernels: lanes, events, pinned memory, graphs, memory.

Two implementations: torch.cuda here, and a strict fake in the tests that runs on the host and fails
where work would go wrong on a device. Knows no model.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from baton.common.errors import ConfigError
from baton.engine.cuda.memory import DeviceMemory


class Event(Protocol):
    """A moment in a lane: everything the lane was told before it."""

    def wait(self) -> None:
        """Returns once the device has come past it."""
        ...


class Pinned(Protocol):
    """Host memory that copies of the device reach by themselves."""

    @property
    def nbytes(self) -> int: ...

    @property
    def array(self) -> NDArray[np.uint8]:
        """Its bytes. Not to be touched between a copy and a wait for it."""
        ...


class Lane(Protocol):
    """A stream: what it is told happens in order, beside what other lanes are told."""

    def working(self) -> AbstractContextManager[None]:
        """Tensor operations and kernels within are told to this lane. Any thread may, one at a
        time."""
        ...

    def mark(self) -> Event: ...

    def wait(self, event: Event) -> None:
        """What the lane is told from now on comes after the event. The host does not wait."""
        ...

    def upload(self, source: Pinned, into: torch.Tensor) -> Event:
        """Copy the first bytes of `source` over all of `into`, which is contiguous."""
        ...

    def fetch(self, source: torch.Tensor, into: Pinned) -> Event:
        """Copy all of `source`, which is contiguous, to the first bytes of `into`."""
        ...


class Graph(Protocol):
    """Recorded work on fixed memory."""

    def replay(self) -> None:
        """Tell the lane of the steps all of it once more."""
        ...


class Device(Protocol):
    @property
    def torch_device(self) -> torch.device: ...

    @property
    def processors(self) -> int:
        """Multiprocessors: how many programs run at once."""
        ...

    @property
    def steps(self) -> Lane:
        """Where the model is computed."""
        ...

    @property
    def results(self) -> Lane:
        """Where a step's tokens travel back while the next step is computed."""
        ...

    @property
    def transfers(self) -> Lane:
        """Where KV leaves and arrives."""
        ...

    def pin(self, nbytes: int) -> Pinned: ...

    def capture(self, work: Callable[[], object]) -> Graph:
        """Record what `work` tells the lane of the steps. It must have run before, must not
        allocate, and must not look at what the device holds."""
        ...

    def memory(self) -> DeviceMemory: ...

    def release_cached(self) -> None:
        """Give back what the allocator keeps for later."""
        ...


class _CudaEvent:
    def __init__(self, stream: torch.cuda.Stream) -> None:
        # a sleeping wait: the host has other threads to run
        self.event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def wait(self) -> None:
        self.event.synchronize()


class _CudaPinned:
    def __init__(self, nbytes: int) -> None:
        self.tensor = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
        self.nbytes = nbytes
        self.array: NDArray[np.uint8] = self.tensor.numpy()


class _CudaLane:
    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def working(self) -> AbstractContextManager[None]:
        return torch.cuda.stream(self.stream)

    def mark(self) -> Event:
        return _CudaEvent(self.stream)

    def wait(self, event: Event) -> None:
        assert isinstance(event, _CudaEvent)
        self.stream.wait_event(event.event)

    def upload(self, source: Pinned, into: torch.Tensor) -> Event:
        assert isinstance(source, _CudaPinned)
        with self.working():
            as_bytes(into).copy_(source.tensor[: into.nbytes], non_blocking=True)
        return self.mark()

    def fetch(self, source: torch.Tensor, into: Pinned) -> Event:
        assert isinstance(into, _CudaPinned)
        with self.working():
            into.tensor[: source.nbytes].copy_(as_bytes(source), non_blocking=True)
        return self.mark()


class _CudaGraph:
    def __init__(self, lane: _CudaLane, graph: torch.cuda.CUDAGraph) -> None:
        self._lane, self._graph = lane, graph

    def replay(self) -> None:
        with self._lane.working():
            self._graph.replay()


class CudaDevice:
    """Implements Device over torch.cuda. Raises ConfigError where torch sees no such device."""

    def __init__(self, index: int = 0) -> None:
        if not torch.cuda.is_available():
            raise ConfigError(["device: torch sees no CUDA device; choose cpu"])
        self.torch_device = torch.device("cuda", index)
        torch.cuda.set_device(self.torch_device)
        properties = torch.cuda.get_device_properties(self.torch_device)
        self.processors = int(properties.multi_processor_count)
        self.steps = _CudaLane(self.torch_device)
        self.results = _CudaLane(self.torch_device)
        self.transfers = _CudaLane(self.torch_device)
        self._pool = torch.cuda.graph_pool_handle()  # one for all graphs: they never run at once

    def pin(self, nbytes: int) -> Pinned:
        return _CudaPinned(nbytes)

    def capture(self, work: Callable[[], object]) -> Graph:
        torch.cuda.synchronize(self.torch_device)
        graph = torch.cuda.CUDAGraph()
        # other threads may go on with what a capture forbids its own
        mode = "thread_local"
        with torch.cuda.graph(graph, self._pool, self.steps.stream, capture_error_mode=mode):
            work()
        return _CudaGraph(self.steps, graph)

    def memory(self) -> DeviceMemory:
        """What torch's allocator keeps for later counts as taken: release it first."""
        torch.cuda.synchronize(self.torch_device)
        free, total = torch.cuda.mem_get_info(self.torch_device)
        return DeviceMemory(free, total)

    def release_cached(self) -> None:
        torch.cuda.empty_cache()


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a contiguous tensor, flat, without a copy."""
    return tensor.view(-1).view(torch.uint8)
