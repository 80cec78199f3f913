"""A runner without a model: its "KV" of a position is a hash of all tokens up to it.

Every step checks that each earlier position of a slice holds what it must, so a block that was
shared, evicted, overwritten or handed over wrongly is found at once. The next token is a function
of the whole prefix (and of seed and position where sampling is asked): any schedule must give the
same output.
"""

from collections.abc import Sequence
from hashlib import blake2b

from baton.engine.batch import BatchSlice, SliceResult, StepBatch
from baton.engine.params import SamplingParams, TokenSample

VOCABULARY = 97
EOS = 1


def prefix_hash(token_ids: Sequence[int]) -> bytes:
    return blake2b(repr(list(token_ids)).encode(), digest_size=8).digest()


def next_token(token_ids: Sequence[int], params: SamplingParams) -> int:
    """What the fake model says after `token_ids`."""
    key = prefix_hash(token_ids)
    if not params.greedy:
        key += f"{params.seed}/{len(token_ids)}".encode()
    return int.from_bytes(blake2b(key, digest_size=4).digest(), "little") % VOCABULARY


def solo_output(prompt: Sequence[int], params: SamplingParams, capacity_tokens: int) -> list[int]:
    """The output of a request that is alone in the world."""
    output: list[int] = []
    while True:
        output.append(next_token([*prompt, *output], params))
        stop = output[-1] == EOS and not params.ignore_eos
        if stop or len(output) == params.max_tokens:
            return output
        if len(prompt) + len(output) >= capacity_tokens:
            return output


class FakeRunner:
    """Runner and KvStore over hashes instead of tensors."""

    def __init__(self, block_count: int, block_size: int, *, shares_writes: bool = False) -> None:
        self.block_size = block_size
        self._shares_writes = shares_writes  # several may write the same values to one block
        self.cells: list[list[bytes]] = [[b"?" * 8] * block_size for _ in range(block_count)]
        self._known: dict[str, list[int]] = {}
        self.steps = 0
        self.largest_step_tokens = 0
        self.stood_back = False  # in the last step

    def run(self, batch: StepBatch) -> list[SliceResult]:
        self.steps += 1
        self.stood_back = batch.stands_back
        total = sum(len(piece.token_ids) for piece in batch.slices)
        self.largest_step_tokens = max(self.largest_step_tokens, total)
        written: set[int] = set()
        for piece in batch.slices:
            if piece.sample is not None:
                known = [*piece.sample.prompt, *piece.sample.output]
                self._known[piece.request_id] = known
            blocks = {
                piece.block_table[position // self.block_size]
                for position in range(piece.start, piece.context_length)
            }
            assert self._shares_writes or not blocks & written, (
                "two slices of a step write the same block"
            )
            written |= blocks
        return [self._compute(piece) for piece in batch.slices]

    def _compute(self, piece: BatchSlice) -> SliceResult:
        tokens = self.full_prefix(piece.request_id)[: piece.start]
        for position in range(piece.start):
            assert self.cell(piece.block_table, position) == prefix_hash(tokens[: position + 1]), (
                f"{piece.request_id}: wrong KV at position {position}"
            )
        for offset, token in enumerate(piece.token_ids):
            tokens.append(token)
            self._write(piece.block_table, piece.start + offset, prefix_hash(tokens))
        if piece.sample is None:
            if len(tokens) > len(self._known[piece.request_id]):  # a draft reads what was said
                self._known[piece.request_id] = tokens
            return SliceResult()
        known = len(tokens) - piece.guesses
        assert tokens[:known] == [*piece.sample.prompt, *piece.sample.output]
        samples = []
        for count in range(piece.guesses + 1):
            samples.append(TokenSample(next_token(tokens[: known + count], piece.sample.params)))
            if samples[-1].token_id not in tokens[known + count : known + count + 1]:
                break
        return SliceResult(tuple(samples))

    def expect(self, request_id: str, prompt: Sequence[int], output: Sequence[int] = ()) -> None:
        """Tell the fake which request is behind an id, before its first step."""
        self._known[request_id] = [*prompt, *output]

    def full_prefix(self, request_id: str) -> list[int]:
        return list(self._known[request_id])

    def cell(self, table: Sequence[int], position: int) -> bytes:
        return self.cells[table[position // self.block_size]][position % self.block_size]

    def _write(self, table: Sequence[int], position: int, value: bytes) -> None:
        self.cells[table[position // self.block_size]][position % self.block_size] = value

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        return b"".join(b"".join(self.cells[block]) for block in block_ids)

    def touch(self) -> bool:
        return False

    def write_blocks(self, block_ids: Sequence[int], payload: bytes) -> None:
        words = [payload[i : i + 8] for i in range(0, len(payload), 8)]
        for index, block in enumerate(block_ids):
            start = index * self.block_size
            self.cells[block] = words[start : start + self.block_size]

    def fill(self, block_table: Sequence[int], token_ids: Sequence[int]) -> None:
        """Write the KV of `token_ids` as a prefill worker would have."""
        for position in range(len(token_ids)):
            self._write(block_table, position, prefix_hash(token_ids[: position + 1]))
