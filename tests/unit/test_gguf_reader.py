"""GGUF files are read as the gguf package reads them, and refused with one clear error."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from baton.common.errors import ModelFileError
from baton.model.ggml import GgmlType
from baton.model.gguf import GgufFile
from support.gguf_files import write_gguf_file

SHAPES = {
    "vector": ((256,), GgmlType.F32),
    "matrix": ((3, 512), GgmlType.Q4_K),
    "cube": ((2, 3, 32), GgmlType.Q8_0),
}


@pytest.mark.parametrize("kind", list(GgmlType), ids=lambda kind: kind.name)
def test_a_tensor_of_each_type_has_the_place_and_bytes_of_the_gguf_package(
    tmp_path: Path, kind: GgmlType
) -> None:
    path = write_gguf_file(tmp_path / "m.gguf", tensors={"first": ((5, 256), kind), **SHAPES})
    oracle = gguf.GGUFReader(path)
    with GgufFile.open(path) as file:
        assert list(file.tensors) == [tensor.name for tensor in oracle.tensors]
        for tensor in oracle.tensors:
            entry = file.tensors[tensor.name]
            assert entry.shape == tuple(int(size) for size in reversed(tensor.shape))
            assert (entry.type.name, entry.type.number) == (
                tensor.tensor_type.name,
                tensor.tensor_type,
            )
            assert (entry.offset, entry.nbytes) == (tensor.data_offset, tensor.n_bytes)
            expected = np.asarray(tensor.data).view(np.uint8).reshape(-1)
            assert np.array_equal(file.tensor_bytes(tensor.name), expected)


def test_block_sizes_are_those_of_the_gguf_package() -> None:
    for kind in GgmlType:
        expected = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.name]]
        assert (kind.block_values, kind.block_bytes) == expected


def test_metadata_of_every_value_type_is_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65_535)
    writer.add_int16("i16", -32_768)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 1e-300)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "größer 🎉")
    writer.add_array("texts", ["a", "", "日本"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("fractions", [0.25, -1.5])
    writer.add_array("flags", [True, False, True])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile.open(tmp_path / "m.gguf") as file:
        assert dict(file.metadata) == {
            "general.architecture": "llama",
            "u8": 255,
            "i8": -128,
            "u16": 65_535,
            "i16": -32_768,
            "u32": 2**32 - 1,
            "i32": -(2**31),
            "u64": 2**64 - 1,
            "i64": -(2**63),
            "f32": 0.5,
            "f64": 1e-300,
            "yes": True,
            "no": False,
            "text": "größer 🎉",
            "texts": ("a", "", "日本"),
            "numbers": (1, 2, 3),
            "fractions": (0.25, -1.5),
            "flags": (True, False, True),
        }
        assert isinstance(file.metadata["yes"], bool)


def test_an_own_alignment_moves_the_data(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_custom_alignment(256)
    writer.add_tensor("one", np.arange(5, dtype=np.float32))
    writer.add_tensor("two", np.arange(7, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile.open(tmp_path / "m.gguf") as file:
        assert [entry.offset % 256 for entry in file.tensors.values()] == [0, 0]
        assert file.tensor_bytes("two").view("<f4").tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_version_2_is_read_like_version_3(tmp_path: Path) -> None:
    path = write_gguf_file(tmp_path / "m.gguf", tensors=SHAPES)
    image = bytearray(path.read_bytes())
    image[4:8] = struct.pack("<I", 2)
    path.write_bytes(image)
    assert list(GgufFile.open(path).tensors) == list(SHAPES)


def test_views_outlive_the_file_and_cannot_be_written(tmp_path: Path) -> None:
    path = write_gguf_file(tmp_path / "m.gguf", values={"t": np.arange(4, dtype=np.float32)})
    with GgufFile.open(path) as file:
        view = file.tensor_bytes("t")
    assert view.view("<f4").tolist() == [0, 1, 2, 3]
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="closed"):
        file.tensor_bytes("t")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_gguf_file(tmp_path / "m.gguf", tensors=SHAPES)
    with (
        GgufFile.open(path) as file,
        pytest.raises(ModelFileError, match=r"m\.gguf.*output\.weight"),
    ):
        file.tensor_bytes("output.weight")


def test_a_large_vocabulary_is_read_well_under_a_second(tmp_path: Path) -> None:
    tokens = [f"token{index}" for index in range(150_000)]
    path = write_gguf_file(tmp_path / "m.gguf", keys={"tokenizer.ggml.tokens": tokens})
    with GgufFile.open(path) as file:
        assert file.metadata["tokenizer.ggml.tokens"] == tuple(tokens)


@pytest.mark.parametrize(
    ("at", "patch", "says"),
    [
        (0, b"GGML", "not a GGUF file"),
        (4, struct.pack("<I", 1), "version 1"),
        (4, struct.pack("<I", 4), "version 4"),
        (4, struct.pack(">I", 3), "big-endian"),
        (8, struct.pack("<Q", 2**63), "corrupt"),
        (16, struct.pack("<Q", 2**40), "corrupt"),
        (24, struct.pack("<Q", 2**62), "string"),
    ],
)
def test_a_wrong_header_is_refused_by_name(
    tmp_path: Path, at: int, patch: bytes, says: str
) -> None:
    path = write_gguf_file(tmp_path / "broken.gguf", tensors=SHAPES)
    image = bytearray(path.read_bytes())
    image[at : at + len(patch)] = patch
    path.write_bytes(image)
    with pytest.raises(ModelFileError, match=rf"^broken\.gguf: .*{says}"):
        GgufFile.open(path)


def test_an_unsupported_tensor_type_names_tensor_type_and_what_is_supported(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    blocks = np.zeros((4, 84), dtype=np.uint8)
    writer.add_tensor("blk.0.ffn_up.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q2_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match=r"m\.gguf: .*blk\.0\.ffn_up\.weight.*Q2_K.*Q4_K Q5_K"):
        GgufFile.open(tmp_path / "m.gguf")


def test_a_truncated_file_names_the_tensor_that_is_cut(tmp_path: Path) -> None:
    path = write_gguf_file(tmp_path / "m.gguf", tensors=SHAPES)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelFileError, match=r"m\.gguf: truncated: tensor cube"):
        GgufFile.open(path)


def test_one_part_of_a_split_model_is_refused(tmp_path: Path) -> None:
    path = write_gguf_file(tmp_path / "m.gguf", keys={"split.count": 3})
    with pytest.raises(ModelFileError, match="one of 3 parts"):
        GgufFile.open(path)


@pytest.mark.parametrize("what", ["empty", "missing", "directory"])
def test_what_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "m.gguf"
    if what == "empty":
        path.touch()
    elif what == "directory":
        path.mkdir()
    with pytest.raises(ModelFileError, match=r"^m\.gguf: "):
        GgufFile.open(path)
