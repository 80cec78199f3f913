"""An open GGUF file: its metadata and its tensors' bytes, over a memory map.

Knows where each tensor lies; knows no meaning of the metadata, no tokens, decodes no tensors.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from baton.common.errors import ModelFileError
from baton.model.ggml import GgmlType
from baton.model.gguf_header import GgufScalar, GgufValue, HeaderReader, TensorEntry

__all__ = ["GgmlType", "GgufFile", "GgufScalar", "GgufValue", "TensorEntry", "map_file"]


class GgufFile:
    """An open GGUF file. Views from `tensor_bytes` stay valid after `close`: they hold the map."""

    def __init__(
        self,
        name: str,
        image: NDArray[np.uint8],
        metadata: Mapping[str, GgufValue],
        tensors: Mapping[str, TensorEntry],
    ) -> None:
        self.name = name
        self.metadata: Mapping[str, GgufValue] = MappingProxyType(dict(metadata))
        self.tensors: Mapping[str, TensorEntry] = MappingProxyType(dict(tensors))
        self._image: NDArray[np.uint8] | None = image

    @classmethod
    def open(cls, path: Path) -> "GgufFile":
        """Map the file and read its header. Raises ModelFileError, naming file and fault."""
        image = map_file(path)
        metadata, tensors = HeaderReader(path.name, image).read()
        return cls(path.name, image, metadata, tensors)

    def tensor_bytes(self, name: str) -> NDArray[np.uint8]:
        """The tensor as it lies in the file: a read-only view, [nbytes]."""
        entry = self.tensors.get(name)
        if entry is None:
            raise ModelFileError(f"{self.name}: tensor {name} is missing")
        if self._image is None:
            raise ValueError("the GGUF file is closed")
        return self._image[entry.offset : entry.offset + entry.nbytes]

    def close(self) -> None:
        self._image = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def map_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file as a read-only map, [bytes]. Raises ModelFileError."""
    try:
        if path.stat().st_size == 0:
            raise ModelFileError(f"{path.name}: the file is empty")
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except OSError as error:
        raise ModelFileError(f"{path.name}: cannot be read ({error.strerror})") from error
