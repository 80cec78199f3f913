"""A tokenizer out of GGUF metadata: byte-level BPE ("gpt2") and SentencePiece BPE ("llama").

Knows the metadata's keys; knows no tensors.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import tokenizers
from tokenizers import AddedToken, models, normalizers, processors

from baton.common.errors import ModelFileError
from baton.model.byte_level import spelled_bytes
from baton.model.fields import Fields
from baton.model.gguf import GgufFile
from baton.model.pretokenizers import WORD_CUTS, WordCut
from baton.model.sentencepiece import SPACE, merges_by_score, piece_bytes
from baton.model.tokens import Tokenizer, Vocabulary

PREFIX = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # values of tokenizer.ggml.token_type
END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
END_TEXTS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end_of_text|>", "<|endoftext|>")
"""Control tokens that end a turn or a text by their name. A GGUF file often keeps only one of those
its original's generation_config.json lists; a model that emits another would run on."""


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The token table of one file."""

    said: Fields
    texts: tuple[str, ...]
    types: tuple[int, ...]  # one per text
    template: str | None

    def of_type(self, *types: int) -> list[int]:
        return [index for index, kind in enumerate(self.types) if kind in types]

    def token_id(self, key: str) -> int | None:
        index = self.said.index(key)
        if index is not None and index >= len(self.texts):
            raise self.said.wrong(key, "a token of the vocabulary")
        return index


def tokenizer_from_gguf(file: GgufFile) -> Tokenizer:
    """Raises ModelFileError for what is missing, malformed or unsupported."""
    tokens = _tokens(file)
    kind = tokens.said.text("model")
    try:
        if kind == "gpt2":
            return _byte_level(tokens)
        if kind == "llama":
            return _sentencepiece(tokens)
    except ModelFileError:
        raise
    except Exception as error:  # the tokenizers package raises no narrower class
        raise ModelFileError(f"{file.name}: the vocabulary is corrupt ({error!s:.200})") from error
    raise tokens.said.unsupported(f"tokenizer {kind!s:.40}", "gpt2 llama")


def eos_token_ids_from_gguf(file: GgufFile) -> tuple[int, ...]:
    """What the tokenizer would say, without building one. Raises ModelFileError."""
    return _end_ids(_tokens(file))


def _tokens(file: GgufFile) -> _Tokens:
    said = Fields(file.name, file.metadata, PREFIX)
    texts = said.texts("tokens")
    if not texts:
        raise ModelFileError(f"{file.name}: {PREFIX}tokens is missing, the file has no vocabulary")
    types = said.whole_numbers("token_type") or (NORMAL,) * len(texts)
    if len(types) != len(texts):
        raise said.wrong("token_type", "as long as the vocabulary")
    template = Fields(file.name, file.metadata).text("tokenizer.chat_template")
    return _Tokens(said, texts, types, template)


def _byte_level(tokens: _Tokens) -> Tokenizer:
    cut = _word_cut(tokens.said)
    vocabulary = {text: index for index, text in enumerate(tokens.texts)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, _merges(tokens.said), ignore_merges=cut.whole_words)
    )
    if cut.composed:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = cut.pre_tokenizer()
    plain = set(tokens.of_type(UNKNOWN, CONTROL, USER_DEFINED))
    token_bytes = (
        text.encode("utf-8") if index in plain else spelled_bytes(text)
        for index, text in enumerate(tokens.texts)
    )
    return _finished(backend, tokens, token_bytes, cut.starts_with_bos, strips_leading_space=False)


def _sentencepiece(tokens: _Tokens) -> Tokenizer:
    scores = tokens.said.numbers("scores")
    if scores is None or len(scores) != len(tokens.texts):
        raise tokens.said.wrong("scores", "one score per token")
    normal = {tokens.texts[index]: index for index in tokens.of_type(NORMAL)}
    merges = merges_by_score(normal, {text: scores[index] for text, index in normal.items()})
    unknown = next((tokens.texts[index] for index in tokens.of_type(UNKNOWN)), None)
    vocabulary = {text: index for index, text in enumerate(tokens.texts)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    space_first = tokens.said.flag("add_space_prefix", True)
    spaces = normalizers.Replace(" ", SPACE)
    # at the start and after each special token, as llama.cpp puts it: files say no more than yes
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if space_first else spaces
    )
    control = set(tokens.of_type(UNKNOWN, CONTROL))
    token_bytes = (
        text.encode("utf-8") if index in control else piece_bytes(text)
        for index, text in enumerate(tokens.texts)
    )
    return _finished(backend, tokens, token_bytes, True, strips_leading_space=space_first)


def _finished(
    backend: tokenizers.Tokenizer,
    tokens: _Tokens,
    token_bytes: Iterable[bytes],
    starts_with_bos: bool,
    *,
    strips_leading_space: bool,
) -> Tokenizer:
    """Add what both kinds share: the special tokens, begin and end."""
    special = tokens.of_type(UNKNOWN, CONTROL)
    backend.add_special_tokens([_whole(tokens.texts[index], special=True) for index in special])
    backend.add_tokens(
        [_whole(tokens.texts[index], special=False) for index in tokens.of_type(USER_DEFINED)]
    )
    bos, ends = tokens.token_id("bos_token_id"), _end_ids(tokens)
    begins = bos if tokens.said.flag("add_bos_token", starts_with_bos) else None
    ends_with = ends[0] if ends and tokens.said.flag("add_eos_token", False) else None
    backend.post_processor = _begin_and_end(begins, ends_with)
    vocabulary = Vocabulary(
        token_bytes=tuple(token_bytes),
        special_ids=frozenset(special) | {end for end in (bos, *ends) if end is not None},
        bos_token_id=bos,
        eos_token_ids=ends,
        chat_template=tokens.template,
        strips_leading_space=strips_leading_space,
    )
    return Tokenizer(backend, vocabulary)


def _whole(text: str, *, special: bool) -> AddedToken:
    """A token that is found in text before anything is cut."""
    return AddedToken(text, special=special, normalized=False)


def _begin_and_end(bos: int | None, eos: int | None) -> processors.TemplateProcessing:
    single = " ".join(["BOS"] * (bos is not None) + ["$A"] + ["EOS"] * (eos is not None))
    named = [(name, token) for name, token in (("BOS", bos), ("EOS", eos)) if token is not None]
    return processors.TemplateProcessing(single=single, special_tokens=named)


def _end_ids(tokens: _Tokens) -> tuple[int, ...]:
    named = [tokens.token_id(key) for key in END_KEYS]
    by_text = [index for index in tokens.of_type(CONTROL) if tokens.texts[index] in END_TEXTS]
    return tuple(dict.fromkeys(end for end in (*named, *by_text) if end is not None))


def _word_cut(said: Fields) -> WordCut:
    name = said.text("pre") or "default"
    if name not in WORD_CUTS:
        raise said.unsupported(f"pre-tokenizer {name:.40}", " ".join(WORD_CUTS))
    return WORD_CUTS[name]


def _merges(said: Fields) -> list[tuple[str, str]]:
    merges = []
    for merge in said.texts("merges") or ():
        left, _, right = merge.partition(" ")
        if not left or not right:
            raise said.wrong("merges", "a list of pairs")
        merges.append((left, right))
    return merges
