"""Byte-level BPE out of GGUF: cut, merged and spelled as the vocabulary's own definition says."""

import codecs
from pathlib import Path

import pytest
import tokenizers
from baton.common.errors import InvalidRequest, ModelFileError
from baton.model.fetch import LocalModel
from baton.model.pretokenizers import WORD_CUTS
from baton.model.tokenizer import Tokenizer, load_eos_token_ids, load_tokenizer
from support.gguf_files import Value, bpe_keys, write_gguf_file
from support.multilingual import TEXTS
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

VOCAB_SIZE = 1_000
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# as published in the models' own tokenizer.json files
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_WORDS = LLAMA3_WORDS.replace("{1,3}", "")


def split(words: str) -> pre_tokenizers.PreTokenizer:
    cut = pre_tokenizers.Split(Regex(words), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([cut, letters])


def published(pre: str) -> tokenizers.Tokenizer:
    """The definition a model family publishes, with a small vocabulary trained here."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = {
        "gpt-2": words,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words]),
        "llama-bpe": split(LLAMA3_WORDS),
        "qwen2": split(QWEN2_WORDS),
    }[pre]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for text in TEXTS if "<|" not in text], trainer)
    return tokenizer


def load(tmp_path: Path, keys: dict[str, Value]) -> Tokenizer:
    return load_tokenizer(LocalModel(write_gguf_file(tmp_path / "m.gguf", keys=keys), "0"))


@pytest.fixture(scope="module")
def gpt2_keys() -> dict[str, Value]:
    return bpe_keys(published("gpt-2"), "gpt-2")


@pytest.fixture
def tokenizer(tmp_path: Path, gpt2_keys: dict[str, Value]) -> Tokenizer:
    ends: dict[str, Value] = {
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages }}",
    }
    return load(tmp_path, {**gpt2_keys, **ends})


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_text_is_cut_as_the_published_definition_cuts_it(tmp_path: Path, pre: str) -> None:
    oracle = published(pre)
    ours = load(tmp_path, bpe_keys(oracle, pre))
    for text in TEXTS:
        expected = oracle.encode(text).ids
        assert ours.encode(text, add_special=False, parse_special=True) == expected, text


def test_text_survives_the_round_trip(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        for parse_special in (True, False):
            ids = tokenizer.encode(text, add_special=True, parse_special=parse_special)
            assert tokenizer.decode(ids, skip_special=False) == text


def test_bytes_joined_one_by_one_are_the_decoded_text(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special=False, parse_special=False)
        for kept in (ids, ids[1:], ids[:-1]):  # a cut may fall inside a character
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            pieces = [decoder.decode(tokenizer.token_bytes(i)) for i in kept]
            assert "".join(pieces) + decoder.decode(b"", True) == tokenizer.decode(kept)


def test_special_tokens_in_text_are_control_only_when_asked(tokenizer: Tokenizer) -> None:
    text = "<|im_start|>user"
    control = tokenizer.encode(text, add_special=False, parse_special=True)
    plain = tokenizer.encode(text, add_special=False, parse_special=False)
    assert control[0] == 1
    assert not {0, 1, 2} & set(plain)
    assert tokenizer.decode(control) == "user"
    assert tokenizer.decode(plain) == tokenizer.decode(control, skip_special=False) == text


def test_what_the_file_says_of_its_tokens_is_known(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == VOCAB_SIZE
    assert (tokenizer.bos_token_id, tokenizer.bos_token) == (1, "<|im_start|>")
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.eos_token_ids == (2, 0)  # <|endoftext|> ends a text by its name
    assert tokenizer.chat_template == "{{ messages }}"
    assert [tokenizer.is_special(i) for i in range(4)] == [True, True, True, False]
    assert tokenizer.token_bytes(1) == b"<|im_start|>"
    assert tokenizer.token_bytes(VOCAB_SIZE) == tokenizer.token_bytes(-1) == b""
    assert not tokenizer.strips_leading_space


@pytest.mark.parametrize(
    ("pre", "said", "expected"),
    [
        ("gpt-2", {}, (False, False)),
        ("gpt-2", {"add_bos_token": True}, (True, False)),
        ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, (True, True)),
        ("llama-bpe", {}, (True, False)),
        ("llama-bpe", {"add_bos_token": False}, (False, False)),
    ],
)
def test_begin_and_end_tokens_are_added_as_the_file_wants(
    tmp_path: Path,
    gpt2_keys: dict[str, Value],
    pre: str,
    said: dict[str, bool],
    expected: tuple[bool, bool],
) -> None:
    keys: dict[str, Value] = {**gpt2_keys, "tokenizer.ggml.pre": pre}
    keys |= {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    keys |= {f"tokenizer.ggml.{key}": value for key, value in said.items()}
    ours = load(tmp_path, keys)
    bare = ours.encode("a b", add_special=False, parse_special=True)
    ids = ours.encode("a b", add_special=True, parse_special=True)
    assert ids == [1] * expected[0] + bare + [2] * expected[1]


def test_every_end_token_is_known(tmp_path: Path, gpt2_keys: dict[str, Value]) -> None:
    keys: dict[str, Value] = {**gpt2_keys, "tokenizer.ggml.eos_token_id": 5}
    keys |= {"tokenizer.ggml.eot_token_id": 6, "tokenizer.ggml.eom_token_id": 7}
    ours = load(tmp_path, keys)
    assert ours.eos_token_ids == (5, 6, 7, 0, 2)
    # A worker asks without building a tokenizer.
    assert load_eos_token_ids(LocalModel(tmp_path / "m.gguf", "0")) == ours.eos_token_ids
    assert ours.bos_token_id is None
    assert ours.bos_token == ""


def test_user_defined_tokens_are_whole_but_not_special(
    tmp_path: Path, gpt2_keys: dict[str, Value]
) -> None:
    extended: dict[str, Value] = dict(gpt2_keys)
    for key, value in (("tokens", "<think ö>"), ("token_type", 4)):
        known = gpt2_keys[f"tokenizer.ggml.{key}"]
        assert isinstance(known, list)
        extended[f"tokenizer.ggml.{key}"] = [*known, value]
    ours = load(tmp_path, extended)
    for parse_special in (True, False):
        ids = ours.encode("a<think ö>b", add_special=False, parse_special=parse_special)
        assert ids[1] == VOCAB_SIZE
        assert ours.decode(ids) == "a<think ö>b"
    assert not ours.is_special(VOCAB_SIZE)


def test_a_lone_surrogate_is_the_callers_fault(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        tokenizer.encode("a\ud800b", add_special=False, parse_special=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokenizer.ggml.pre": "chatglm-bpe"}, rf"chatglm-bpe.*{' '.join(WORD_CUTS)}"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer bert.*gpt2 llama"),
        ({"tokenizer.ggml.tokens": []}, "no vocabulary"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokens is not a list of strings"),
        ({"tokenizer.ggml.token_type": [1]}, "token_type is not as long"),
        ({"tokenizer.ggml.merges": ["ab"]}, "merges is not a list of pairs"),
        ({"tokenizer.ggml.merges": ["zzz yyy"]}, "vocabulary is corrupt"),
        ({"tokenizer.ggml.bos_token_id": VOCAB_SIZE}, "bos_token_id is not a token"),
        ({"tokenizer.ggml.model": "llama"}, "scores is not one score per token"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_refused(
    tmp_path: Path, gpt2_keys: dict[str, Value], change: dict[str, Value], says: str
) -> None:
    with pytest.raises(ModelFileError, match=rf"^m\.gguf: .*{says}"):
        load(tmp_path, {**gpt2_keys, **change})
