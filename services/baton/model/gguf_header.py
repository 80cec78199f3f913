"""Parses the header of a GGUF v2 or v3 file: metadata and tensor table.

Every length is checked against the file before anything is allocated or sliced, so a truncated or
corrupt file costs one ModelFileError. Knows bytes; knows no files, no meaning of keys, no tokens.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baton.common.errors import ModelFileError
from baton.model.ggml import GGML_TYPES, SUPPORTED_GGML_TYPES, GgmlType, ggml_type_name

GgufScalar = bool | int | float | str
GgufValue = GgufScalar | tuple[GgufScalar, ...]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_BYTES = 32  # of tensor data, where general.alignment says nothing else
ALIGNMENT_BYTES_MAX = 1 << 20  # no file has more than a page; a larger one is corruption
KEYS_MAX = 4_096  # real files carry tens of keys
TENSORS_MAX = 65_536  # Llama 405B has 1,138 tensors, mixtures of experts a few thousand
DIMENSIONS_MAX = 4  # ggml's own limit
NAME_BYTES_MAX = 65_535  # the GGUF specification's limit for keys
FAULT_CHARS_MAX = 500  # a corrupt name may have 64 KB
ARRAY_ITEMS_MAX = 1 << 22  # the largest vocabularies have about 2^19 merges

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {  # number of a metadata value type: numpy's little-endian name
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "<u1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies. `shape` in torch order (rows first), `offset` from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    nbytes: int


class HeaderReader:
    """Walks the header once, front to back. `_at` is the next unread byte."""

    def __init__(self, name: str, image: NDArray[np.uint8]) -> None:
        self._name = name
        self._bytes = image.data
        self._at = 0
        self._part = "the header"  # what is being read, for error messages

    def read(self) -> tuple[dict[str, GgufValue], dict[str, TensorEntry]]:
        """Metadata and tensor table. Raises ModelFileError, naming the file and the fault."""
        tensor_count, key_count = self._counts()
        metadata: dict[str, GgufValue] = {}
        for index in range(key_count):
            self._part = f"metadata key {index + 1} of {key_count}"
            key = self._string(NAME_BYTES_MAX)
            if key in metadata:
                raise self._fault(f"metadata key {key} appears twice")
            self._part = f"metadata key {key}"
            metadata[key] = self._value(self._u32())
        self._refuse_split(metadata)
        return metadata, self._tensors(tensor_count, self._alignment(metadata))

    def _counts(self) -> tuple[int, int]:
        if bytes(self._take(4)) != MAGIC:
            raise self._fault("not a GGUF file (its first four bytes are not 'GGUF')")
        version = self._u32()
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "big"), "little")
            what = "big-endian" if swapped in VERSIONS else f"GGUF version {version}"
            raise self._fault(f"{what} is not supported (little-endian versions 2 and 3 are)")
        tensor_count, key_count = self._u64(), self._u64()
        if tensor_count > TENSORS_MAX or key_count > KEYS_MAX:
            raise self._fault(
                f"corrupt: {tensor_count} tensors and {key_count} metadata keys"
                f" (at most {TENSORS_MAX} and {KEYS_MAX})"
            )
        return tensor_count, key_count

    def _refuse_split(self, metadata: Mapping[str, GgufValue]) -> None:
        parts = metadata.get("split.count", 0)
        if isinstance(parts, int) and parts > 1:
            raise self._fault(f"one of {parts} parts of a split model; merge the parts first")

    def _alignment(self, metadata: Mapping[str, GgufValue]) -> int:
        alignment = metadata.get("general.alignment", ALIGNMENT_BYTES)
        power_of_two = (
            isinstance(alignment, int) and alignment > 0 and not alignment & alignment - 1
        )
        if not isinstance(alignment, int) or not power_of_two or alignment > ALIGNMENT_BYTES_MAX:
            raise self._fault("corrupt: general.alignment is not a small power of two")
        return alignment

    def _tensors(self, count: int, alignment: int) -> dict[str, TensorEntry]:
        """The tensor table. Data follows it with no gaps but the alignment's."""
        relative: dict[str, TensorEntry] = {}
        expected = 0
        for index in range(count):
            self._part = f"tensor {index + 1} of {count}"
            entry = self._tensor()
            if entry.name in relative:
                raise self._fault(f"tensor {entry.name} appears twice")
            if entry.offset != expected:
                raise self._fault(
                    f"corrupt: tensor {entry.name} is at offset {entry.offset}, not {expected}"
                )
            expected += _padded(entry.nbytes, alignment)
            relative[entry.name] = entry
        start = _padded(self._at, alignment)
        return {name: self._placed(entry, start) for name, entry in relative.items()}

    def _tensor(self) -> TensorEntry:
        name = self._string(NAME_BYTES_MAX)
        self._part = f"tensor {name}"
        rank = self._u32()
        if not 1 <= rank <= DIMENSIONS_MAX:
            raise self._fault(f"corrupt: tensor {name} has {rank} dimensions")
        shape = tuple(reversed([self._u64() for _ in range(rank)]))  # ggml counts columns first
        number, offset = self._u32(), self._u64()
        kind = GGML_TYPES.get(number)
        if kind is None:
            raise self._fault(
                f"tensor {name} has type {ggml_type_name(number)}, which is not supported"
                f" (supported: {SUPPORTED_GGML_TYPES})"
            )
        if 0 in shape or shape[-1] % kind.block_values:
            raise self._fault(f"corrupt: tensor {name} of type {kind.name} has shape {list(shape)}")
        nbytes = math.prod(shape) // kind.block_values * kind.block_bytes
        return TensorEntry(name, shape, kind, offset, nbytes)

    def _placed(self, entry: TensorEntry, start: int) -> TensorEntry:
        offset = start + entry.offset
        if offset + entry.nbytes > len(self._bytes):
            raise self._fault(
                f"truncated: tensor {entry.name} ends at byte {offset + entry.nbytes},"
                f" the file at {len(self._bytes)}"
            )
        return TensorEntry(entry.name, entry.shape, entry.type, offset, entry.nbytes)

    def _value(self, kind: int) -> GgufValue:
        if kind == _STRING:
            return self._string(len(self._bytes))
        if kind == _ARRAY:
            return self._array(self._u32(), self._u64())
        return self._scalars(kind, 1)[0]

    def _array(self, kind: int, count: int) -> tuple[GgufScalar, ...]:
        if count > ARRAY_ITEMS_MAX:
            raise self._fault(
                f"corrupt: {self._part} has {count} items (at most {ARRAY_ITEMS_MAX})"
            )
        return self._strings(count) if kind == _STRING else self._scalars(kind, count)

    def _scalars(self, kind: int, count: int) -> tuple[GgufScalar, ...]:
        if kind not in _SCALARS:
            raise self._fault(f"corrupt: {self._part} has value type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        values = np.frombuffer(self._take(count * dtype.itemsize), dtype)
        return tuple((values != 0).tolist() if kind == _BOOL else values.tolist())

    def _strings(self, count: int) -> tuple[str, ...]:
        """`count` strings: the one hot loop here (a vocabulary and its merges are 300,000)."""
        view, at, end = self._bytes, self._at, len(self._bytes)
        unpack, found = _U64.unpack_from, []
        try:
            for _ in range(count):
                (length,) = unpack(view, at)
                at += 8
                if length > end - at:
                    raise self._truncated(length)
                found.append(str(view[at : at + length], "utf-8"))
                at += length
        except struct.error as error:
            raise self._truncated(8) from error
        except UnicodeDecodeError as error:
            raise self._fault(f"corrupt: {self._part} is not UTF-8") from error
        self._at = at
        return tuple(found)

    def _string(self, length_max: int) -> str:
        length = self._u64()
        if length > length_max:
            raise self._fault(f"corrupt: {self._part} holds a string of {length} bytes")
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise self._fault(f"corrupt: {self._part} is not UTF-8") from error

    def _u32(self) -> int:
        return int(_U32.unpack(self._take(4))[0])

    def _u64(self) -> int:
        return int(_U64.unpack(self._take(8))[0])

    def _take(self, length: int) -> memoryview:
        if length > len(self._bytes) - self._at:
            raise self._truncated(length)
        taken = self._bytes[self._at : self._at + length]
        self._at += length
        return taken

    def _truncated(self, length: int) -> ModelFileError:
        return self._fault(
            f"truncated or corrupt: {self._part} wants {length} bytes beyond byte {self._at}"
            f" of a file of {len(self._bytes)}"
        )

    def _fault(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self._name}: {what[:FAULT_CHARS_MAX]}")


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment
