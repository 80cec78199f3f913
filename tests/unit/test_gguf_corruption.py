"""Truncated and corrupt GGUF headers cost one ModelFileError and little memory, nothing else."""

import random
import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from baton.common.errors import ModelFileError
from baton.model.ggml import GgmlType
from baton.model.gguf_header import HeaderReader, TensorEntry
from support.gguf_files import write_gguf_file

MEMORY_BYTES_MAX = 8 << 20  # a header of a kilobyte must not cost more, whatever its lengths claim


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write_gguf_file(
        tmp_path_factory.mktemp("gguf") / "m.gguf",
        shape_keys={"block_count": 1, "rope.freq_base": 1e4},
        keys={"texts": ["ab", "", "日"], "numbers": [1, 2], "flag": True},
        tensors={"a": ((4, 32), GgmlType.Q4_0), "b": ((8,), GgmlType.F32)},
    )
    return path.read_bytes()


@pytest.fixture(scope="module")
def tensors(image: bytes) -> dict[str, TensorEntry]:
    return HeaderReader("m.gguf", np.frombuffer(image, np.uint8)).read()[1]


@pytest.fixture(scope="module")
def header_bytes(tensors: dict[str, TensorEntry]) -> int:
    """Length of the header: everything before the first tensor's data."""
    return tensors["a"].offset


def refusals(images: Iterable[bytes]) -> list[str]:
    """The errors of those images that are refused; what is neither read nor refused raises."""
    refused = []
    tracemalloc.start()
    try:
        for image in images:
            try:
                HeaderReader("m.gguf", np.frombuffer(image, np.uint8)).read()
            except ModelFileError as error:
                refused.append(str(error))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MEMORY_BYTES_MAX
    assert all(error.startswith("m.gguf: ") and len(error) < 600 for error in refused)
    return refused


def test_every_truncation_is_refused(image: bytes, tensors: dict[str, TensorEntry]) -> None:
    end = tensors["b"].offset + tensors["b"].nbytes  # only padding follows
    assert len(refusals(image[:length] for length in range(end))) == end


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_corrupt_header_byte_is_read_or_refused(
    image: bytes, header_bytes: int, mask: int
) -> None:
    def corrupt(at: int) -> bytes:
        return image[:at] + bytes([image[at] ^ mask]) + image[at + 1 :]

    # a corrupt letter in a text cannot be seen, a corrupt length or type can
    assert len(refusals(corrupt(at) for at in range(header_bytes))) > header_bytes // 4


def test_random_garbage_in_the_header_is_read_or_refused(image: bytes, header_bytes: int) -> None:
    draws = random.Random(20)

    def corrupt() -> bytes:
        found = bytearray(image)
        for _ in range(draws.randint(2, 12)):
            found[draws.randrange(header_bytes)] = draws.choice([0, 1, 8, 9, 0x7F, 0xFF])
        return bytes(found)

    assert len(refusals(corrupt() for _ in range(800))) > 400
