"""Safetensors headers are read as the format's own library wrote them, or refused by name."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from baton.common.errors import ModelFileError
from baton.model.safetensors_index import INDEX_NAME, SafetensorsFiles, safetensors_paths
from numpy.typing import NDArray
from safetensors.numpy import save_file

TENSORS: dict[str, NDArray[np.generic]] = {
    "model.norm.weight": np.arange(8, dtype=np.float32),
    "lm_head.weight": np.arange(12, dtype=np.float16).reshape(3, 4),
}


def write_header(path: Path, header: object, data_bytes: int = 16) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data_bytes))


def test_a_single_file_is_read_as_written(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with SafetensorsFiles.open(tmp_path) as files:
        assert files.tensors.keys() == TENSORS.keys()
        for name, array in TENSORS.items():
            entry = files.tensors[name]
            assert entry.shape == array.shape
            assert entry.dtype == {"float32": "F32", "float16": "F16"}[array.dtype.name]
            assert entry.nbytes == array.nbytes
            stored = files.tensor_bytes(name)
            assert stored.tobytes() == array.tobytes()
            with entry.file.open("rb") as file:
                file.seek(entry.offset)
                assert file.read(entry.nbytes) == array.tobytes()


def test_shards_are_found_through_the_index(tmp_path: Path) -> None:
    shards = {
        "a-00001.safetensors": ["model.norm.weight"],
        "a-00002.safetensors": ["lm_head.weight"],
    }
    for shard, names in shards.items():
        save_file({name: TENSORS[name] for name in names}, tmp_path / shard)
    save_file({"other": TENSORS["lm_head.weight"]}, tmp_path / "consolidated.safetensors")
    placed = {name: shard for shard, names in shards.items() for name in names}
    (tmp_path / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    with SafetensorsFiles.open(tmp_path) as files:
        assert {name: entry.file.name for name, entry in files.tensors.items()} == placed
        assert files.tensor_bytes("lm_head.weight").tobytes() == TENSORS["lm_head.weight"].tobytes()


def test_a_tensor_the_index_promises_must_be_there(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    index = {"weight_map": {"lm_head.weight": "a.safetensors", "gone.weight": "a.safetensors"}}
    (tmp_path / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(ModelFileError, match=r"a\.safetensors: tensor gone\.weight.*missing"):
        SafetensorsFiles.open(tmp_path)


@pytest.mark.parametrize("shard", ["../a.safetensors", "/etc/a.safetensors", "a.bin", 7, None])
def test_the_index_cannot_point_elsewhere(tmp_path: Path, shard: object) -> None:
    (tmp_path / INDEX_NAME).write_text(json.dumps({"weight_map": {"t": shard}}))
    with pytest.raises(ModelFileError, match=INDEX_NAME):
        SafetensorsFiles.open(tmp_path)


def test_a_directory_without_or_with_unclear_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no safetensors"):
        safetensors_paths(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        save_file(TENSORS, tmp_path / name)
    with pytest.raises(ModelFileError, match="several"):
        safetensors_paths(tmp_path)


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 17]}, "truncated.*tensor w lies at"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}, "tensor w lies at"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}, "no shape or no offsets"),
        ({"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}, "tensor w of type F32 and shape"),
        ({"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]}, "F8_E4M3.*F32 F16 BF16"),
        ({"dtype": "F32", "shape": "4", "data_offsets": [0, 16]}, "no shape"),
        ({"dtype": "F32", "shape": [True], "data_offsets": [0, 16]}, "no shape"),
        ({"dtype": "F32", "shape": [4]}, "no offsets"),
        ({"dtype": "F32", "shape": [2**64] * 9, "data_offsets": [0, 16]}, "no shape"),
        ("F32", "not described"),
    ],
)
def test_a_wrong_entry_names_file_and_tensor(tmp_path: Path, described: object, says: str) -> None:
    write_header(tmp_path / "model.safetensors", {"w": described})
    with pytest.raises(ModelFileError, match=rf"^model\.safetensors: .*{says}"):
        SafetensorsFiles.open(tmp_path)


@pytest.mark.parametrize(
    "image",
    [
        b"\x01",
        (2**60).to_bytes(8, "little") + b"{}",
        (9).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{\xff",
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, image: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(image)
    with pytest.raises(ModelFileError, match=r"^model\.safetensors: "):
        SafetensorsFiles.open(tmp_path)


def test_deep_json_is_refused(tmp_path: Path) -> None:
    write_header(tmp_path / "model.safetensors", b'{"a":' + b"[" * 100_000)
    with pytest.raises(ModelFileError, match="not JSON"):
        SafetensorsFiles.open(tmp_path)


def test_corrupt_headers_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    image, draws, refused = path.read_bytes(), random.Random(3), 0
    header_bytes = 8 + int.from_bytes(image[:8], "little")
    for _ in range(300):
        broken = bytearray(image)
        broken[draws.randrange(header_bytes)] ^= draws.randrange(1, 256)
        path.write_bytes(broken)
        try:
            SafetensorsFiles.open(tmp_path).close()
        except ModelFileError:
            refused += 1
    assert refused > 150
