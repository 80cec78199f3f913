"""A device made of host memory that fails a test where a real one would go wrong.

- Captured work is recorded call by call and replayed with the very tensors and numbers it was
  recorded with. It may not allocate, look at values, or touch memory that an earlier step made for
  itself.
- Copies back to the host run as late as they may: when their event is waited for. Until then the
  pinned memory must not be touched; what is overwritten before its copy is lost.
- Each lane keeps a clock, each event knows the clocks it implies: a copy of something that another
  lane may still be writing is an error.
- `run_out_of_memory` makes the next step fail for want of memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from baton.engine.cuda.device import Event, Graph, Pinned, as_bytes
from baton.engine.cuda.memory import DeviceMemory
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from triton.runtime import interpreter

MIB = 1024**2
TOTAL_BYTES = 1024 * MIB
# Of which a worker leaves a quarter alone: 8 MiB become KV blocks. The interpreter copies all of
# the cache at every launch.
FREE_BYTES = 264 * MIB
READS_VALUES = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "_unique2")


class FakeDevice:
    """Implements Device. `free_bytes`: what it says is free."""

    def __init__(self, *, free_bytes: int = FREE_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self.torch_device = torch.device("cpu")
        self.processors = 1  # so that little is split: the interpreter is slow
        self.host: dict[str, int] = {}  # of each lane, how far the host knows it has come
        self.steps = FakeLane(self, "steps")
        self.results = FakeLane(self, "results")
        self.transfers = FakeLane(self, "transfers")
        self.free_bytes, self.total_bytes = free_bytes, total_bytes
        self.transient: set[int] = set()  # storages made while a step ran
        self._kept: list[torch.UntypedStorage] = []  # so that no address is used twice
        self.run_out_of_memory = False
        self.captured = self.replayed = self.released = 0

    def pin(self, nbytes: int) -> "FakePinned":
        return FakePinned(self, nbytes)

    def capture(self, work: Callable[[], object]) -> Graph:
        self.captured += 1
        recorder = _Recorder(self)
        with _kernels_told_to(recorder.kernel), recorder:
            work()
        assert recorder.calls, "nothing was captured"
        return _FakeGraph(self, recorder.calls)

    def memory(self) -> DeviceMemory:
        return DeviceMemory(self.free_bytes, self.total_bytes)

    def release_cached(self) -> None:
        self.released += 1

    def require_memory(self) -> None:
        """Something is about to be allocated."""
        if self.run_out_of_memory:
            self.run_out_of_memory = False
            raise torch.OutOfMemoryError("the fake device has no memory left")

    def made(self, storage: torch.UntypedStorage) -> None:
        """A step allocated something."""
        self._kept.append(storage)
        self.transient.add(storage.data_ptr())


class FakeEvent:
    def __init__(self, device: FakeDevice, clocks: Mapping[str, int]) -> None:
        self._device, self.clocks = device, dict(clocks)

    def wait(self) -> None:
        device = self._device
        for lane in (device.steps, device.results, device.transfers):
            come = self.clocks.get(lane.name, 0)
            lane.run_until(come)
            device.host[lane.name] = max(device.host.get(lane.name, 0), come)


class FakePinned:
    def __init__(self, device: FakeDevice, nbytes: int) -> None:
        self._device, self.nbytes = device, nbytes
        self.memory = torch.full((nbytes,), 0xA5, dtype=torch.uint8)
        self.busy: tuple[str, int] | None = None  # the last copy: its lane, and that one's clock

    @property
    def array(self) -> NDArray[np.uint8]:
        if self.busy is not None:
            lane, clock = self.busy
            assert self._device.host.get(lane, 0) >= clock, (
                "pinned memory touched before the event of its copy"
            )
        return self.memory.numpy()


class FakeLane:
    """`steps` runs what it is told at once; copies of the others wait for the host."""

    def __init__(self, device: FakeDevice, name: str) -> None:
        self._device, self.name = device, name
        self.clocks: dict[str, int] = {name: 0}
        self._late: list[tuple[int, Callable[[], None]]] = []

    @contextmanager
    def working(self) -> Iterator[None]:
        self._tick()
        if self is self._device.steps:
            self._device.require_memory()
        with _kernels_told_to(_run_kernel), _Watcher(self._device):
            yield

    def mark(self) -> Event:
        return FakeEvent(self._device, self.clocks)

    def wait(self, event: Event) -> None:
        assert isinstance(event, FakeEvent)
        for lane, come in event.clocks.items():
            self.clocks[lane] = max(self.clocks.get(lane, 0), come)

    def upload(self, source: Pinned, into: torch.Tensor) -> Event:
        assert isinstance(source, FakePinned)
        assert into.is_contiguous()
        self._hand_over(source)
        as_bytes(into).copy_(source.memory[: into.nbytes])
        return self.mark()

    def fetch(self, source: torch.Tensor, into: Pinned) -> Event:
        assert isinstance(into, FakePinned)
        assert source.is_contiguous()
        if self.name == "results":  # other lanes copy what they wrote themselves
            written = self._device.steps.clocks["steps"]
            known = max(self.clocks.get("steps", 0), self._device.host.get("steps", 0))
            assert known >= written, "a copy of what a step may still be writing"
        self._hand_over(into)
        clock = self.clocks[self.name]
        self._late.append((clock, lambda: _copy_back(source, into)))
        return self.mark()

    def run_until(self, clock: int) -> None:
        while self._late and self._late[0][0] <= clock:
            self._late.pop(0)[1]()

    def _tick(self) -> None:
        self.clocks[self.name] += 1

    def _hand_over(self, pinned: FakePinned) -> None:
        assert pinned.array is not None, "a copy upon a copy"
        self._tick()
        pinned.busy = (self.name, self.clocks[self.name])


def _copy_back(source: torch.Tensor, into: FakePinned) -> None:
    into.memory[: source.nbytes].copy_(as_bytes(source))


class _FakeGraph:
    def __init__(self, device: FakeDevice, calls: Sequence[Callable[[], object]]) -> None:
        self._device, self._calls = device, calls

    def replay(self) -> None:
        self._device.replayed += 1
        with self._device.steps.working():
            for call in self._calls:
                call()


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what a step allocates for itself."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        known = _storages((args, kwargs))
        for address, storage in _storages(result).items():
            if address not in known:
                self._device.made(storage)
        return result


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records calls that write into memory that lasts; everything else is an error."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.calls: list[Callable[[], object]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        name = func.overloadpacket.__name__
        assert name not in READS_VALUES, f"captured work looks at values: {name}"
        self._check((args, named), name)
        result = func(*args, **named)
        known = _storages((args, named))
        made = [address for address in _storages(result) if address not in known]
        assert not made, f"captured work allocates: {name}"
        if func._schema.is_mutable:  # a view needs no second time
            self.calls.append(lambda: func(*args, **named))
        return result

    def kernel(self, launch: Callable[[], None], name: str, told: object) -> None:
        self._check(told, name)
        with _disable_current_modes():
            launch()
        self.calls.append(launch)

    def _check(self, told: object, name: str) -> None:
        strangers = [a for a in _storages(told) if a in self._device.transient]
        assert not strangers, f"captured work touches what a step made for itself: {name}"


def _storages(values: object) -> dict[int, torch.UntypedStorage]:
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
    found = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage for storage in found if storage.nbytes()}


Told = Callable[[Callable[[], None], str, object], None]


def _run_kernel(launch: Callable[[], None], name: str, told: object) -> None:
    """Of the interpreter's own allocations no device knows."""
    with _disable_current_modes():
        launch()


@contextmanager
def _kernels_told_to(told: Told) -> Iterator[None]:
    """Launches of interpreted kernels within go to `told`."""
    executor = interpreter.GridExecutor
    plain = executor.__call__

    def launch(self: Any, *args: Any, **kwargs: Any) -> None:
        told(lambda: plain(self, *args, **kwargs), self.fn.__name__, (args, kwargs))

    executor.__call__ = launch
    try:
        yield
    finally:
        executor.__call__ = plain
