"""tokenizer.json and the files beside it become one tokenizer, whichever way bytes are spelled."""

import json
from pathlib import Path

import pytest
import tokenizers
from baton.common.errors import ModelFileError
from baton.model.fetch import LocalModel
from baton.model.tokenizer import Tokenizer, load_tokenizer
from support.multilingual import TEXTS
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

SPACE = "\u2581"


def byte_level() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    return tokenizer


def sentencepiece_like(decoder: decoders.Decoder) -> tokenizers.Tokenizer:
    """As Llama 2's tokenizer.json: spaces as U+2581, byte fallback, a space before the text."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoder
    train(tokenizer, [], [f"<0x{byte:02X}>" for byte in range(256)])
    return tokenizer


def train(
    tokenizer: tokenizers.Tokenizer, alphabet: list[str], tokens: list[str] | None = None
) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *(tokens or [])],
        initial_alphabet=alphabet,
        limit_alphabet=120,
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for text in TEXTS if "<" not in text], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )


FALLBACK = decoders.Sequence(
    [
        decoders.Replace(SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
)


def plain_bytes(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The byte tokens as published files have them: in the vocabulary, not special."""
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = [t for t in described["added_tokens"] if "<0x" not in t["content"]]
    return tokenizers.Tokenizer.from_str(json.dumps(described))


def load(directory: Path, backend: tokenizers.Tokenizer, **settings: object) -> Tokenizer:
    backend.save(str(directory / "tokenizer.json"))
    if settings:
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(LocalModel(directory, "0"))


@pytest.mark.parametrize("kind", ["byte-level", "fallback"])
def test_ids_and_texts_are_those_of_the_backend(tmp_path: Path, kind: str) -> None:
    backend = byte_level() if kind == "byte-level" else plain_bytes(sentencepiece_like(FALLBACK))
    ours = load(tmp_path, backend)
    assert ours.strips_leading_space == (kind == "fallback")
    for text in TEXTS:
        ids = backend.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special=False, parse_special=True) == ids
        assert ours.encode(text, add_special=True, parse_special=True) == [1, *ids]
        joined = b"".join(ours.token_bytes(i) for i in ids if not ours.is_special(i))
        if ours.strips_leading_space:
            joined = joined.removeprefix(b" ")
        decoded = joined.decode("utf-8", "replace")
        assert decoded == ours.decode(ids) == backend.decode(ids, skip_special_tokens=True)


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    backend = byte_level()
    expected = backend.encode("a b c d e f g h").ids
    backend.enable_truncation(4)
    backend.enable_padding(length=50)
    ours = load(tmp_path, backend)
    assert ours.encode("a b c d e f g h", add_special=True, parse_special=True) == expected


def test_begin_and_end_tokens_come_from_the_files_beside(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2, 8]}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 9}')
    ours = load(tmp_path, byte_level(), bos_token={"content": "<s>"}, eos_token="</s>")
    assert (ours.bos_token_id, ours.bos_token, ours.eos_token) == (1, "<s>", "</s>")
    assert ours.eos_token_ids == (2, 7, 8)


def test_older_directories_name_tokens_in_the_special_tokens_map(tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": "</s>", "bos_token": null}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 9}')
    ours = load(tmp_path, byte_level())
    assert ours.eos_token_ids == (2, 9)
    assert ours.bos_token_id is None
    assert ours.bos_token == ""


def test_the_chat_template_is_the_file_then_the_setting(tmp_path: Path) -> None:
    assert load(tmp_path, byte_level()).chat_template is None
    named = [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]
    assert load(tmp_path, byte_level(), chat_template=named).chat_template == "D"
    assert load(tmp_path, byte_level(), chat_template="S").chat_template == "S"
    (tmp_path / "chat_template.jinja").write_text("F")
    assert load(tmp_path, byte_level(), chat_template="S").chat_template == "F"


def test_a_directory_without_tokenizer_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no tokenizer\.json"):
        load_tokenizer(LocalModel(tmp_path, "0"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": {"type": "Nonsense"}}, "corrupt"),
        ({"decoder": None}, "decoder none is not supported.*ByteLevel ByteFallback Metaspace"),
        ({"decoder": {"type": "BPEDecoder", "suffix": "</w>"}}, "decoder BPEDecoder"),
    ],
)
def test_a_tokenizer_json_that_cannot_be_used_is_refused(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    described = json.loads(byte_level().to_str()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ModelFileError, match=rf"^tokenizer\.json: .*{says}"):
        load_tokenizer(LocalModel(tmp_path, "0"))


def test_settings_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tokenizer_config\.json: eos_token is not a string"):
        load(tmp_path, byte_level(), eos_token=7)
