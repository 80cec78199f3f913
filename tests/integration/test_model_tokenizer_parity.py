"""Text becomes the tokens that transformers makes of it, for SmolLM2 and small vocabularies."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from baton.model.chat import ChatTemplate
from baton.model.fetch import LocalModel
from baton.model.gguf import GgufFile
from baton.model.tokenizer import Tokenizer, load_tokenizer
from support.gguf_files import write_gguf_file
from support.multilingual import TEXTS
from support.smollm2 import smollm2_model
from support.tiny_tokenizer import save_tokenizer
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

CONVERSATIONS: dict[str, list[dict[str, str]]] = {
    "question": [{"role": "user", "content": "What is the capital of France?"}],
    "system": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Grüße 🎉\n\n"},
    ],
    "turns": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<b>&amp;"},
        {"role": "user", "content": ""},
    ],
}


@cache
def smollm2_tokenizer() -> Tokenizer:
    return load_tokenizer(smollm2_model())


@cache
def smollm2_oracle() -> Any:
    """transformers' tokenizer from the same file, with the digits cut singly.

    Its GGUF conversion leaves that cut out, although SmolLM2's published tokenizer.json has it:
    Sequence[Digits(individual_digits), ByteLevel(use_regex)].
    """
    model = smollm2_model()
    oracle = AutoTokenizer.from_pretrained(model.path.parent, gguf_file=model.path.name)
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    oracle.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    return oracle


@pytest.mark.smollm2
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_smollm2_text_has_the_ids_of_transformers(text: str) -> None:
    expected = smollm2_oracle().encode(text, add_special_tokens=False)
    ours = smollm2_tokenizer()
    assert ours.encode(text, add_special=True, parse_special=True) == expected
    assert ours.decode(expected, skip_special=False) == text


@pytest.mark.smollm2
def test_smollm2_special_tokens_can_be_plain_text() -> None:
    expected = smollm2_oracle().encode(
        "<|im_start|>user", add_special_tokens=False, split_special_tokens=True
    )
    ids = smollm2_tokenizer().encode("<|im_start|>user", add_special=False, parse_special=False)
    assert ids == expected


@pytest.mark.smollm2
def test_smollm2_every_token_decodes_as_in_transformers() -> None:
    ours, oracle = smollm2_tokenizer(), smollm2_oracle()
    assert ours.vocab_size == len(oracle)
    special = {i for i, token in oracle.added_tokens_decoder.items() if token.special}
    assert {i for i in range(ours.vocab_size) if ours.is_special(i)} == special
    for index in range(ours.vocab_size):
        assert ours.decode([index], skip_special=False) == oracle.decode([index]), index


@pytest.mark.smollm2
@pytest.mark.parametrize("generation", [True, False])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_smollm2_chat_renders_as_in_transformers(name: str, generation: bool) -> None:
    ours = smollm2_tokenizer()
    chat = ChatTemplate(ours.chat_template, bos_token=ours.bos_token, eos_token=ours.eos_token)
    rendered = chat.render(CONVERSATIONS[name], add_generation_prompt=generation)
    expected = smollm2_oracle().apply_chat_template(
        CONVERSATIONS[name], tokenize=False, add_generation_prompt=generation
    )
    assert rendered == expected


@pytest.mark.smollm2
def test_qwen2_words_are_those_of_transformers(tmp_path: Path) -> None:
    """SmolLM2's vocabulary under Qwen's cut: any vocabulary tells cuts apart."""
    with GgufFile.open(smollm2_model().path) as file:
        said: dict[str, Any] = {k: v for k, v in file.metadata.items() if "tokenizer.ggml" in k}
    keys = {**said, "tokenizer.ggml.pre": "qwen2"}
    ours = load_tokenizer(LocalModel(write_gguf_file(tmp_path / "m.gguf", keys=keys), "0"))
    merges: Any = [tuple(merge.split(" ")) for merge in said["tokenizer.ggml.merges"]]
    tokens = said["tokenizer.ggml.tokens"]
    oracle = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=merges
    )
    for text in TEXTS:
        if "<|" not in text:
            expected = oracle.encode(text, add_special_tokens=False)
            assert ours.encode(text, add_special=False, parse_special=True) == expected, text


def test_a_tokenizer_json_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    ours = load_tokenizer(LocalModel(tmp_path, "0"))
    oracle = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        expected = oracle.encode(text)
        assert ours.encode(text, add_special=True, parse_special=True) == expected
        assert ours.decode(expected) == oracle.decode(expected, skip_special_tokens=True)
    assert (ours.bos_token, ours.eos_token) == (oracle.bos_token, oracle.eos_token)
    assert ours.eos_token_ids == (oracle.eos_token_id, 0)
    assert ours.chat_template == oracle.chat_template
    assert isinstance(oracle, PreTrainedTokenizerFast)
