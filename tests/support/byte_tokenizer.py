"""A tokenizer and chat template small enough to compute by hand: a token is a byte.

256 begins and 257 ends a text, 258 ends a turn; all three are special.
"""

from collections.abc import Mapping, Sequence

from baton.router.text import TextModel, longest_token_bytes

BOS, EOS, END_OF_TURN = 256, 257, 258
SPECIAL = {BOS: b"<s>", EOS: b"</s>", END_OF_TURN: b"<|end|>"}
VOCAB_SIZE = 259


class ByteTokenizer:
    vocab_size = VOCAB_SIZE
    eos_token_ids = (EOS, END_OF_TURN)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        ids = list(text.encode())
        return [BOS, *ids] if add_special else ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        kept = (i for i in ids if not (skip_special and self.is_special(i)))
        return b"".join(self.token_bytes(i) for i in kept).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return SPECIAL[token_id] if token_id in SPECIAL else bytes([token_id])

    def is_special(self, token_id: int) -> bool:
        return token_id in SPECIAL


class LineTemplate:
    """`role: content` a line, then `assistant: `."""

    source = ""

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        lines = [f"{message['role']}: {message['content']}\n" for message in messages]
        return "".join(lines) + "assistant: " * add_generation_prompt


def byte_model(*, context_length: int = 200) -> TextModel:
    tokenizer = ByteTokenizer()
    return TextModel(
        name="bytes",
        created_unix_s=1_700_000_000,
        context_length=context_length,
        vocab_size=VOCAB_SIZE,
        tokenizer=tokenizer,
        chat=LineTemplate(),
        token_bytes_max=longest_token_bytes(tokenizer),
    )
