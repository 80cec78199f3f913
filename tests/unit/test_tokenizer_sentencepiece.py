"""SentencePiece BPE out of GGUF: the same ids and texts as SentencePiece itself."""

import io
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from baton.model.fetch import LocalModel
from baton.model.tokenizer import Tokenizer, load_tokenizer
from support.gguf_files import Value, write_gguf_file
from support.multilingual import TEXTS


@pytest.fixture(scope="module")
def oracle() -> Any:
    """A vocabulary trained as Llama's was: no normalization, byte fallback, spaces kept."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS if text.strip()] * 3),
        model_writer=model,
        model_type="bpe",
        vocab_size=900,
        character_coverage=0.98,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def keys(oracle: Any) -> dict[str, Value]:
    ids = range(oracle.vocab_size())

    def kind(index: int) -> int:
        if oracle.is_unknown(index):
            return 2
        return 3 if oracle.is_control(index) else 6 if oracle.is_byte(index) else 1

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [oracle.id_to_piece(index) for index in ids],
        "tokenizer.ggml.scores": [float(oracle.get_score(index)) for index in ids],
        "tokenizer.ggml.token_type": [kind(index) for index in ids],
        "tokenizer.ggml.bos_token_id": oracle.bos_id(),
        "tokenizer.ggml.eos_token_id": oracle.eos_id(),
        "tokenizer.ggml.unknown_token_id": oracle.unk_id(),
    }


@pytest.fixture(scope="module")
def tokenizer(oracle: Any, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("spm") / "m.gguf"
    return load_tokenizer(LocalModel(write_gguf_file(path, keys=keys(oracle)), "0"))


# what looks like a special token stays text in SentencePiece, so it is asked for as text
def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)


def test_texts_have_the_ids_of_sentencepiece(oracle: Any, tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        if "\0" not in text:  # SentencePiece ends a text there
            assert ids_of(tokenizer, text) == oracle.encode(text), repr(text)


def test_random_texts_have_the_ids_of_sentencepiece(oracle: Any, tokenizer: Tokenizer) -> None:
    draws = random.Random(5)
    alphabet = "aabbehinorst   ,.\n\tЖдأ日é🎉0123"
    for _ in range(1_500):
        text = "".join(draws.choices(alphabet, k=draws.randint(1, 40)))
        assert ids_of(tokenizer, text) == oracle.encode(text), repr(text)


def test_ids_decode_to_the_text_of_sentencepiece(oracle: Any, tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        ids = ids_of(tokenizer, text)
        assert tokenizer.decode(ids) == text
        if "\0" not in text:
            assert tokenizer.decode(ids) == oracle.decode(ids)


def test_prompt_and_continuation_join_to_the_whole_text(tokenizer: Tokenizer) -> None:
    ids = ids_of(tokenizer, "Hello wörld, it's 42 🎉 times")
    assert tokenizer.strips_leading_space
    for cut in range(1, len(ids)):
        prompt = b"".join(tokenizer.token_bytes(i) for i in ids[:cut]).removeprefix(b" ")
        output = b"".join(tokenizer.token_bytes(i) for i in ids[cut:])
        assert (prompt + output).decode() == "Hello wörld, it's 42 🎉 times"


def test_begin_token_comes_first_unless_the_file_says_no(
    oracle: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    expected = [oracle.bos_id(), *oracle.encode("Hi")]
    assert tokenizer.encode("Hi", add_special=True, parse_special=True) == expected
    said: dict[str, Value] = {**keys(oracle), "tokenizer.ggml.add_bos_token": False}
    path = write_gguf_file(tmp_path / "m.gguf", keys=said)
    without = load_tokenizer(LocalModel(path, "0"))
    assert without.encode("Hi", add_special=True, parse_special=True) == expected[1:]


def test_special_tokens_are_control_only_when_asked(oracle: Any, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<s>Hi</s>", add_special=False, parse_special=True)
    assert (ids[0], ids[-1]) == (oracle.bos_id(), oracle.eos_id())
    assert tokenizer.decode(ids) == "Hi"
    assert not {oracle.bos_id(), oracle.eos_id()} & set(ids_of(tokenizer, "<s>Hi</s>"))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer.token_bytes(oracle.piece_to_id("<0x0A>")) == b"\n"


def test_without_space_prefix_text_stands_as_it_is(oracle: Any, tmp_path: Path) -> None:
    said: dict[str, Value] = {**keys(oracle), "tokenizer.ggml.add_space_prefix": False}
    ours = load_tokenizer(LocalModel(write_gguf_file(tmp_path / "m.gguf", keys=said), "0"))
    ids = ids_of(ours, " Hi there")
    assert not ours.strips_leading_space
    assert ours.decode(ids) == " Hi there"
    assert ids == oracle.encode("Hi there")
