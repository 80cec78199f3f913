"""Reads the headers of safetensors files: where each tensor of a model lies, memory-mapped.

Sharded models are found through model.safetensors.index.json. Every offset is checked against its
file, so a truncated or corrupt shard costs one ModelFileError. Knows no models, decodes no tensors.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from baton.common.errors import ModelFileError
from baton.model.gguf import map_file

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
HEADER_BYTES_MAX = 100_000_000  # the limit of the format's own library
INDEX_BYTES_MAX = 100_000_000  # an index is smaller than the headers it sums up
SHARDS_MAX = 4_096  # the largest published models have a few hundred
DIMENSIONS_MAX = 8  # language models need 2
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
SUPPORTED_DTYPES = " ".join(DTYPE_BYTES)


@dataclass(frozen=True, slots=True)
class SafetensorsEntry:
    """Where a tensor lies. `offset` counts from the start of `file`, values are little-endian."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # a key of DTYPE_BYTES
    file: Path
    offset: int
    nbytes: int


class SafetensorsFiles:
    """The tensors of one model directory. Views from `tensor_bytes` stay valid after `close`."""

    def __init__(
        self, tensors: Mapping[str, SafetensorsEntry], images: Mapping[Path, NDArray[np.uint8]]
    ) -> None:
        self.tensors: Mapping[str, SafetensorsEntry] = MappingProxyType(dict(tensors))
        self._images = dict(images)

    @classmethod
    def open(cls, directory: Path) -> "SafetensorsFiles":
        """Read the headers of all shards. Raises ModelFileError, naming the file and the tensor."""
        placed = _weight_map(directory)
        tensors: dict[str, SafetensorsEntry] = {}
        images: dict[Path, NDArray[np.uint8]] = {}
        for path in safetensors_paths(directory):
            images[path] = map_file(path)
            for entry in _entries(path, images[path]):
                if entry.name in tensors:
                    raise ModelFileError(f"{path.name}: tensor {entry.name} is in two files")
                tensors[entry.name] = entry
        for name, file_name in placed.items():
            if name not in tensors or tensors[name].file.name != file_name:
                raise ModelFileError(
                    f"{file_name}: tensor {name}, promised by {INDEX_NAME}, is missing"
                )
        return cls(tensors, images)

    def tensor_bytes(self, name: str) -> NDArray[np.uint8]:
        """The tensor as it lies in its file: a read-only view, [nbytes]."""
        entry = self.tensors.get(name)
        if entry is None:
            raise ModelFileError(f"tensor {name} is missing from the safetensors files")
        image = self._images.get(entry.file)
        if image is None:
            raise ValueError("the safetensors files are closed")
        return image[entry.offset : entry.offset + entry.nbytes]

    def close(self) -> None:
        self._images.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def safetensors_paths(directory: Path) -> list[Path]:
    """The weight files of a model directory, sorted: the index's shards, or the only file."""
    shards = set(_weight_map(directory).values())
    if shards:
        return [directory / name for name in sorted(shards)]
    if (directory / SINGLE_NAME).is_file():
        return [directory / SINGLE_NAME]
    found = sorted(directory.glob("*.safetensors"))
    if len(found) != 1:
        what = "has no safetensors file" if not found else "has several safetensors files, no index"
        raise ModelFileError(f"{directory.name}: the model directory {what}")
    return found


def read_json_object(path: Path, bytes_max: int) -> dict[str, object]:
    """A JSON object from a file of bounded size. Raises ModelFileError, naming the file."""
    try:
        if path.stat().st_size > bytes_max:
            raise ModelFileError(f"{path.name}: larger than {bytes_max} bytes")
        return parse_json_object(path.name, path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path.name}: cannot be read ({error.strerror})") from error


def parse_json_object(file_name: str, text: bytes) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ModelFileError(f"{file_name}: corrupt, not JSON") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{file_name}: corrupt, not a JSON object")
    return value


def _weight_map(directory: Path) -> dict[str, str]:
    """Tensor name to shard name, from the index; empty where there is no index."""
    path = directory / INDEX_NAME
    if not path.is_file():
        return {}
    placed = read_json_object(path, INDEX_BYTES_MAX).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelFileError(f"{INDEX_NAME}: corrupt, has no weight_map")
    for name in placed.values():
        # a name with a separator could point out of the directory
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith(".safetensors")
        ):
            raise ModelFileError(f"{INDEX_NAME}: corrupt, {name!r:.80} is no safetensors file name")
    if len(set(placed.values())) > SHARDS_MAX:
        raise ModelFileError(f"{INDEX_NAME}: more than {SHARDS_MAX} files")
    return placed


def _entries(path: Path, image: NDArray[np.uint8]) -> list[SafetensorsEntry]:
    header, data_start = _header(path.name, image)
    data_bytes = len(image) - data_start
    entries = []
    for name, described in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, start, end = _described(path.name, name, described)
        if not 0 <= start <= end <= data_bytes:
            raise ModelFileError(
                f"{path.name}: truncated or corrupt: tensor {name} lies at {start}..{end}"
                f" of {data_bytes} data bytes"
            )
        if math.prod(shape) * DTYPE_BYTES[dtype] != end - start:
            raise ModelFileError(
                f"{path.name}: corrupt: tensor {name} of type {dtype} and shape {list(shape)}"
                f" takes {end - start} bytes"
            )
        entries.append(SafetensorsEntry(name, shape, dtype, path, data_start + start, end - start))
    return entries


def _header(file_name: str, image: NDArray[np.uint8]) -> tuple[dict[str, object], int]:
    length = int.from_bytes(image[:8].tobytes(), "little")
    if len(image) < 8 or length > len(image) - 8:
        raise ModelFileError(
            f"{file_name}: truncated or not a safetensors file (the header wants {length} bytes,"
            f" the file has {len(image)})"
        )
    if length > HEADER_BYTES_MAX:
        raise ModelFileError(f"{file_name}: corrupt, a header of {length} bytes")
    return parse_json_object(file_name, image[8 : 8 + length].tobytes()), 8 + length


def _described(file_name: str, name: str, said: object) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, start and end (relative to the data) of one header entry."""
    if not isinstance(said, dict):
        raise ModelFileError(f"{file_name}: corrupt: tensor {name} is not described")
    dtype, shape, offsets = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ModelFileError(
            f"{file_name}: tensor {name} has type {dtype!s:.20}, which is not supported"
            f" (supported: {SUPPORTED_DTYPES})"
        )
    if not _naturals(shape, DIMENSIONS_MAX) or not _naturals(offsets, 2) or len(offsets) != 2:
        raise ModelFileError(f"{file_name}: corrupt: tensor {name} has no shape or no offsets")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _naturals(value: object, length_max: int) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= length_max
        and all(type(item) is int and item >= 0 for item in value)
    )
