"""A corrupt model file costs one ModelFileError in config and tokenizer too, whatever the byte."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from baton.common.errors import ModelFileError
from baton.model.card import read_config
from baton.model.fetch import LocalModel
from baton.model.ggml import GgmlType
from baton.model.tokenizer import load_tokenizer
from support.gguf_files import TINY_LLAMA_KEYS, Value, write_gguf_file

TRIALS = 250
BYTE_LEVEL: dict[str, Value] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": ["<s>", "a", "b", "c", "ab", "abc", "Ġ", "<t>"],
    "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 1, 4],
    "tokenizer.ggml.merges": ["a b", "ab c"],
}
SENTENCEPIECE: dict[str, Value] = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "<0x41>", "a", "b", "ab", "\u2581", "<t>"],
    "tokenizer.ggml.token_type": [2, 3, 6, 1, 1, 1, 1, 4],
    "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, 0.0],
}
ENDS: dict[str, Value] = {
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.add_bos_token": True,
}


def exercise_tokenizer(model: LocalModel) -> None:
    tokenizer = load_tokenizer(model)
    for parse_special in (True, False):
        ids = tokenizer.encode("ab <t> <s>A é", add_special=True, parse_special=parse_special)
        tokenizer.decode(ids, skip_special=False)


@pytest.mark.parametrize("read", [read_config, exercise_tokenizer])
@pytest.mark.parametrize("vocabulary", [BYTE_LEVEL, SENTENCEPIECE], ids=["bpe", "spm"])
def test_a_corrupt_file_is_read_or_refused(
    tmp_path: Path, vocabulary: dict[str, Value], read: Callable[[LocalModel], object]
) -> None:
    path = write_gguf_file(
        tmp_path / "m.gguf",
        shape_keys=TINY_LLAMA_KEYS,
        keys={**vocabulary, **ENDS},
        tensors={"token_embd.weight": ((8, 64), GgmlType.Q4_0)},
    )
    read(LocalModel(path, "0"))
    image, draws, refused = path.read_bytes(), random.Random(11), 0
    header_bytes = image.index(b"token_embd.weight")
    for _ in range(TRIALS):
        broken = bytearray(image)
        for _ in range(draws.randint(1, 3)):
            broken[draws.randrange(24, header_bytes)] = draws.choice([0, 1, 3, 4, 6, 65, 200, 255])
        path.write_bytes(broken)
        try:
            read(LocalModel(path, "0"))
        except ModelFileError:
            refused += 1
    assert refused > TRIALS // 10
