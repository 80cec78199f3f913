"""Grammars that outputs must follow: read, checked, and asked which tokens may come next.

`llguidance` does the work, for JSON schemas, regular expressions and context-free grammars alike; a
grammar is text in its language. Knows a vocabulary; knows no requests, no logits and no HTTP.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from baton.common.errors import InvalidRequest
from baton.model.tokens import Tokenizer

GRAMMAR_CHARS_MAX = 1 << 16
"""A schema of hundreds of properties. One as long as this is read in a quarter of a second at
worst."""

KEPT_MAX = 32
"""Grammars kept as they are before the first token, to be copied: an application has a few, and
reading one takes a millisecond and more."""

WORDS_CHARS_MAX = 300  # of the library's own words in an error

_SILENT = 0


def _limits() -> LLParserLimits:
    """A state takes a third of a kB, so that a request takes 16 MB at most; strings of bounded
    length take most, of which some 9,000 characters fit. Nothing is computed before it is needed:
    most of it never is."""
    return LLParserLimits(
        max_lexer_states=50_000, precompute_large_lexemes=False, verbose_errors=False
    )


def check_grammar(grammar: str) -> None:
    """Raises InvalidRequest for a grammar that no worker could follow. Takes milliseconds, and a
    quarter of a second at worst."""
    if len(grammar) > GRAMMAR_CHARS_MAX:
        raise InvalidRequest(f"the grammar has more than {GRAMMAR_CHARS_MAX} characters")
    failed, words = LLMatcher.validate_grammar_with_warnings(grammar, limits=_limits())
    if failed:
        raise _refused(words[0] if words else "")


class Grammars:
    """Makes what holds one output to its grammar. Calls may come from several threads, and block
    for as long as reading a grammar takes."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int) -> None:
        """`vocab_size`: rows of the model's embedding, of which the tokenizer may name fewer.
        Raises InvalidRequest for a vocabulary in which no output could end."""
        ends = list(tokenizer.eos_token_ids)
        if not ends:
            raise InvalidRequest("this model has no token that ends an output")
        # no slices: they would speed masks of some 20 us up, and take 40 MB and 0.15 s to make
        self._vocabulary = LLTokenizer(
            TokenizerWrapper(_Named(tokenizer)), n_vocab=vocab_size, eos_token=ends, slices=[]
        )
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = Lock()

    def constraint(self, grammar: str) -> "GrammarConstraint":
        """For one output. Raises InvalidRequest."""
        with self._lock:
            matcher = self._kept.get(grammar)
            if matcher is None:
                matcher = self._kept[grammar] = self._read(grammar)
                if len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(grammar)
            return GrammarConstraint(matcher.deep_copy())

    def _read(self, grammar: str) -> LLMatcher:
        matcher = LLMatcher(self._vocabulary, grammar, log_level=_SILENT, limits=_limits())
        matcher.compute_bitmask()  # the first is the dearest one: here no step waits for it
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return matcher


class GrammarConstraint:
    """Implements the engine's Constraint. Not for two threads at a time."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._read: list[int] = []  # the tokens the matcher stands behind

    def allowed(self, output: Sequence[int]) -> bytes | None:
        if not self._follow(output):
            return None
        mask = self._matcher.compute_bitmask()
        return None if self._matcher.is_error() else mask

    def forced(self, output: Sequence[int]) -> Sequence[int]:
        return self._matcher.compute_ff_tokens() if self._follow(output) else ()

    def _follow(self, output: Sequence[int]) -> bool:
        """Bring the matcher behind `output`; False where the grammar has no such output."""
        same = _common_length(self._read, output)
        if same < len(self._read):
            self._matcher.rollback(len(self._read) - same)
            del self._read[same:]
        rest = list(output[same:])
        taken = self._matcher.try_consume_tokens(rest)  # up to one that does not fit
        self._read += rest[:taken]
        return taken == len(rest)


def _common_length(read: list[int], output: Sequence[int]) -> int:
    """Of the longest beginning that both have."""
    if read == list(output[: len(read)]):
        return len(read)
    pairs = zip(read, output, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(read), len(output)))


class _Named:
    """A tokenizer under the names the library looks for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        ids = range(tokenizer.vocab_size)
        self.eos_token_id = tokenizer.eos_token_ids[0]
        self.bos_token_id = tokenizer.bos_token_id
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in ids]
        self.special_token_ids = [i for i in ids if tokenizer.is_special(i)]

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=False)


def _refused(words: str) -> InvalidRequest:
    said = " ".join(words.split())[:WORDS_CHARS_MAX]
    return InvalidRequest(f"the grammar cannot be followed: {said}")
