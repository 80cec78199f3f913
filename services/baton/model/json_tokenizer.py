"""A tokenizer out of a Hugging Face model directory: tokenizer.json and the files beside it.

Knows which file says what; knows no vocabulary's spelling but by its decoder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import tokenizers

from baton.common.errors import ModelFileError
from baton.model.byte_level import spelled_bytes
from baton.model.fields import Fields
from baton.model.safetensors_index import read_json_object
from baton.model.sentencepiece import piece_bytes
from baton.model.tokens import Tokenizer, Vocabulary

TOKENIZER_NAME = "tokenizer.json"
TEMPLATE_NAME = "chat_template.jinja"
FILE_BYTES_MAX = 256 << 20  # the largest vocabularies take some 40 MB
TOKEN_ID_MAX = 1 << 22  # as many as a GGUF array may have


def tokenizer_from_directory(directory: Path) -> Tokenizer:
    """Raises ModelFileError for what is missing, malformed or unsupported."""
    path = directory / TOKENIZER_NAME
    if not path.is_file():
        raise ModelFileError(f"{directory.name}: the model directory has no {TOKENIZER_NAME}")
    described = read_json_object(path, FILE_BYTES_MAX)
    settings = _settings(directory)
    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:  # the tokenizers package raises no narrower class
        raise ModelFileError(f"{TOKENIZER_NAME}: corrupt ({error!s:.200})") from error
    backend.no_truncation()
    backend.no_padding()
    spell, strips = _spelling(described)
    bos = _named_id(backend, settings, "bos_token")
    added = backend.get_added_tokens_decoder()
    vocabulary = Vocabulary(
        token_bytes=_token_bytes(backend, spell),
        special_ids=frozenset(index for index, token in added.items() if token.special),
        bos_token_id=bos,
        eos_token_ids=_end_ids(directory, _named_id(backend, settings, "eos_token")),
        chat_template=_chat_template(directory, settings),
        strips_leading_space=strips,
    )
    return Tokenizer(backend, vocabulary)


def _spelling(described: Mapping[str, object]) -> tuple[Callable[[str], bytes], bool]:
    """How the vocabulary spells bytes, and whether decoding drops the first space."""
    decoder = Fields(TOKENIZER_NAME, described).inner("decoder")
    steps = decoder.objects("decoders") or (decoder,) if decoder is not None else ()
    kinds = {step.text("type") for step in steps}
    if "ByteLevel" in kinds:
        return spelled_bytes, False
    if "ByteFallback" in kinds or "Metaspace" in kinds:
        return piece_bytes, any(_drops_space(step) for step in steps)
    found = " ".join(sorted(str(kind) for kind in kinds)) or "none"
    raise ModelFileError(
        f"{TOKENIZER_NAME}: decoder {found:.80} is not supported"
        " (supported: ByteLevel ByteFallback Metaspace)"
    )


def _drops_space(step: Fields) -> bool:
    if step.text("type") == "Strip":
        return step.text("content") == " " and step.index("start") == 1
    if step.text("type") == "Metaspace":
        return step.text("prepend_scheme") != "never" and step.flag("add_prefix_space", True)
    return False


def _token_bytes(backend: tokenizers.Tokenizer, spell: Callable[[str], bytes]) -> tuple[bytes, ...]:
    """Bytes by id; ids that no token has are empty."""
    ids = backend.get_vocab(with_added_tokens=True)
    added = backend.get_added_tokens_decoder()
    size = max([*ids.values(), *added], default=-1) + 1
    if size > TOKEN_ID_MAX:
        raise ModelFileError(f"{TOKENIZER_NAME}: token id {size - 1} is beyond {TOKEN_ID_MAX}")
    found = [b""] * size
    for text, index in ids.items():
        found[index] = spell(text)
    for index, token in added.items():
        found[index] = token.content.encode("utf-8")
    return tuple(found)


def _settings(directory: Path) -> Fields:
    """tokenizer_config.json, over the older special_tokens_map.json; either may be absent."""
    merged: dict[str, object] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            merged |= read_json_object(directory / name, FILE_BYTES_MAX)
    return Fields("tokenizer_config.json", merged)


def _named_id(backend: tokenizers.Tokenizer, settings: Fields, key: str) -> int | None:
    """The id of a token the settings name, as a string or as an object with its content."""
    text = settings.text_or_content(key)
    return None if text is None else backend.token_to_id(text)


def _end_ids(directory: Path, named: int | None) -> tuple[int, ...]:
    """The tokenizer's end token, then those at which generation ends for the model."""
    ids = [] if named is None else [named]
    for name in ("generation_config.json", "config.json"):
        if (directory / name).is_file():
            said = Fields(name, read_json_object(directory / name, FILE_BYTES_MAX))
            ids.extend(said.indexes("eos_token_id"))
            break  # a generation config overrides the model's
    return tuple(dict.fromkeys(ids))


def _chat_template(directory: Path, settings: Fields) -> str | None:
    path = directory / TEMPLATE_NAME
    if path.is_file():
        try:
            return path.read_text("utf-8")
        except ValueError as error:
            raise ModelFileError(f"{TEMPLATE_NAME}: not UTF-8") from error
    return settings.named_text("chat_template", "default")
