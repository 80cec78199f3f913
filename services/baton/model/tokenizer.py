"""The tokenizer of a resolved model, whichever files it has. Knows only where to look."""

from baton.model.fetch import LocalModel
from baton.model.gguf import GgufFile
from baton.model.gguf_tokenizer import eos_token_ids_from_gguf, tokenizer_from_gguf
from baton.model.json_tokenizer import tokenizer_from_directory
from baton.model.tokens import Tokenizer

__all__ = ["Tokenizer", "load_eos_token_ids", "load_tokenizer"]


def load_tokenizer(model: LocalModel) -> Tokenizer:
    """Raises ModelFileError, naming the file and what is supported."""
    if model.path.is_dir():
        return tokenizer_from_directory(model.path)
    with GgufFile.open(model.path) as file:
        return tokenizer_from_gguf(file)


def load_eos_token_ids(model: LocalModel) -> tuple[int, ...]:
    """All a worker needs of a tokenizer. Raises ModelFileError."""
    if model.path.is_dir():  # which token is meant takes the vocabulary to say
        return load_tokenizer(model).eos_token_ids
    with GgufFile.open(model.path) as file:
        return eos_token_ids_from_gguf(file)
