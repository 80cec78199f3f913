"""How byte-level BPE vocabularies cut text into words, by the name GGUF gives the cut.

Knows the cuts of the supported vocabularies; knows no vocabulary.
"""

from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class WordCut:
    """`split`: the words' regex, None for GPT-2's own. `whole_words`: a word that is a token stays
    one, whatever the merges say. `starts_with_bos`: the default where a file says nothing."""

    split: str | None
    single_digits: bool = False
    composed: bool = False  # text is brought to Unicode NFC first
    whole_words: bool = False
    starts_with_bos: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        if self.split is not None:
            return Sequence(
                [
                    Split(Regex(self.split), behavior="isolated"),
                    ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        words = ByteLevel(add_prefix_space=False, use_regex=True)
        return Sequence([Digits(individual_digits=True), words]) if self.single_digits else words


_GPT2 = WordCut(None)
_LLAMA_BPE = WordCut(_LLAMA3, whole_words=True, starts_with_bos=True)

WORD_CUTS = {  # by tokenizer.ggml.pre
    "default": _GPT2,
    "gpt-2": _GPT2,
    "smollm": WordCut(None, single_digits=True),
    "llama-bpe": _LLAMA_BPE,
    "llama3": _LLAMA_BPE,
    "llama-v3": _LLAMA_BPE,
    "qwen2": WordCut(_QWEN2, composed=True),
    "deepseek-r1-qwen": WordCut(_QWEN2, composed=True),
    "tekken": WordCut(_TEKKEN, whole_words=True, starts_with_bos=True),
}
