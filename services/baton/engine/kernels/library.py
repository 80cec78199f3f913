"""The kernels as Python calls them. ctypes lets go of the interpreter during each call.

Knows signatures; knows nothing of models or steps. Callers answer for sizes and lifetimes.
"""

import ctypes
from ctypes import byref, c_int32, c_int64, c_void_p
from pathlib import Path

from baton.common.errors import EngineFailure
from baton.engine.kernels.structs import LinearStruct, ModelStruct, StepStruct


class KernelLibrary:
    """A loaded library. Raises OSError when the file cannot be loaded.

    It computes every scheme and every type of KV, whatever it was built for.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name, result, arguments in _SIGNATURES:
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def weight_bytes(self, linear: LinearStruct) -> int:
        return int(self._library.baton_weight_bytes(byref(linear)))

    def panels(self, linear: LinearStruct) -> int:
        return int(self._library.baton_panels(byref(linear)))

    def pack(
        self,
        linear: LinearStruct,
        weight: int,
        weights: int,
        scales: int | None,
        sums: int | None,
        threads: int,
    ) -> None:
        """Addresses: float32 weights [outer, inner] -> zeroed memory of `weight_bytes`."""
        self._library.baton_pack(byref(linear), weight, weights, scales, sums, threads)

    def linear(
        self, linear: LinearStruct, x: int, rows: int, y: int, *, add: bool, threads: int
    ) -> None:
        """Addresses: x [rows, inner] -> y [rows, outer], float32."""
        self._library.baton_linear(byref(linear), x, rows, add, y, threads)

    def attend(
        self, model: ModelStruct, step: StepStruct, layer: int, q: int, out: int, threads: int
    ) -> None:
        """Addresses: q [rows, heads, head_size in whole vectors], scaled -> out."""
        self._library.baton_attend(byref(model), byref(step), layer, q, out, threads)

    def new_decoder(self, model: ModelStruct, threads: int, nicer: int) -> int:
        """A handle; `model` is copied, what it points to is not. `nicer`: how far threads of steps
        that stand back do so; 0: none does. Raises EngineFailure."""
        handle: int | None = self._library.baton_decoder_new(byref(model), threads, nicer)
        if handle is None:
            raise EngineFailure("the kernels got no memory or no threads")
        return handle

    def delete_decoder(self, handle: int) -> None:
        self._library.baton_decoder_delete(handle)

    def step(self, handle: int, step: StepStruct) -> None:
        if self._library.baton_decoder_step(handle, byref(step)):
            raise EngineFailure("the kernels ran out of memory in a step")

    def logits(self, handle: int, hidden: int, rows: int, logits: int, stride: int) -> None:
        """Addresses: hidden [rows, hidden_size] -> logits [rows, stride], float32."""
        if self._library.baton_decoder_logits(handle, hidden, rows, logits, stride):
            raise EngineFailure("the kernels ran out of memory at the head")


_LINEAR, _MODEL, _STEP = (ctypes.POINTER(kind) for kind in (LinearStruct, ModelStruct, StepStruct))
_SIGNATURES = (
    ("baton_weight_bytes", c_int64, (_LINEAR,)),
    ("baton_panels", c_int32, (_LINEAR,)),
    ("baton_pack", None, (_LINEAR, c_void_p, c_void_p, c_void_p, c_void_p, c_int32)),
    ("baton_linear", None, (_LINEAR, c_void_p, c_int32, c_int32, c_void_p, c_int32)),
    ("baton_attend", None, (_MODEL, _STEP, c_int32, c_void_p, c_void_p, c_int32)),
    ("baton_decoder_new", c_void_p, (_MODEL, c_int32, c_int32)),
    ("baton_decoder_delete", None, (c_void_p,)),
    ("baton_decoder_step", c_int32, (c_void_p, _STEP)),
    ("baton_decoder_logits", c_int32, (c_void_p, c_void_p, c_int32, c_void_p, c_int64)),
)
