"""What a grammar lets through, asked of the library that workers ask: a token is a byte."""

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

_END = 256


class _Bytes:
    eos_token_id = _END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    special_token_ids = (_END,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


_TOKENS = LLTokenizer(TokenizerWrapper(_Bytes()))


def begins(grammar: str, text: str) -> bool:
    """Whether an answer may begin so."""
    return _read(grammar, text) is not None


def follows(grammar: str, text: str) -> bool:
    """Whether an answer may be this text, no less and no more."""
    matcher = _read(grammar, text)
    return matcher is not None and matcher.is_accepting()


def _read(grammar: str, text: str) -> LLMatcher | None:
    matcher = LLMatcher(_TOKENS, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = list(text.encode())
    return matcher if matcher.try_consume_tokens(tokens) == len(tokens) else None
