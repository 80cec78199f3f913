"""The tokenizer of a resolved model, whichever files it has. Knows only where to look."""

from baton.model.fetch import LocalModel
from baton.model.gguf import GgufFile
from baton.model.gguf_tokenizer import tokenizer_from_gguf
from baton.model.json_tokenizer import tokenizer_from_directory
from baton.model.tokens import Tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]


def load_tokenizer(model: LocalModel) -> Tokenizer:
    """Raises ModelFileError, naming the file and what is supported."""
    if model.path.is_dir():
        return tokenizer_from_directory(model.path)
    with GgufFile.open(model.path) as file:
        return tokenizer_from_gguf(file)
