"""The real engine over a model without weights, and the bytes of its KV laid out like real ones.

A position's KV is a hash of the position before and its token, spread over layers, keys and values;
the next token is a hash of all KV of the sequence, read through the block table. One wrong, missing
or misplaced byte anywhere therefore changes the output. Steps can be rationed: `allow` hands out
model steps one by one, so that a test decides how far a prompt has come.
"""

import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np
from baton.engine.batch import BatchSlice, Runner, SliceResult, StepBatch
from baton.engine.blocks import BlockPool
from baton.engine.engine import Engine
from baton.engine.messages import Command, StepReport
from baton.engine.params import SamplingParams, TokenSample
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.scheduler import Scheduler
from baton.handoff.layout import KvLayout

BLOCK_SIZE = 4
LAYOUT = KvLayout(
    model_revision="fake", layers=2, kv_heads=1, head_size=2, block_size=BLOCK_SIZE, dtype="float32"
)
CELL_BYTES = 8  # of one position, per layer and side: kv_heads x head_size x 4
VOCAB_SIZE = 251
EOS = 0
START = b"\0" * CELL_BYTES


def cell(previous: bytes, token_id: int) -> bytes:
    return blake2b(previous + token_id.to_bytes(4, "little"), digest_size=CELL_BYTES).digest()


def spread(value: bytes, layer: int, side: int) -> bytes:
    """What layer and side hold of a position: different everywhere."""
    return bytes(byte ^ (layer * 2 + side) for byte in value)


def drawn(cells: Sequence[bytes]) -> int:
    """The token after a sequence with these cells; never EOS."""
    digest = blake2b(b"".join(cells), digest_size=4).digest()
    return 1 + int.from_bytes(digest, "little") % (VOCAB_SIZE - 1)


def solo_output(prompt: Sequence[int], max_tokens: int, output: Sequence[int] = ()) -> list[int]:
    """What a request answers that is alone in the world, `output` included."""
    tokens = [*prompt, *output]
    while len(tokens) < len(prompt) + max_tokens:
        cells, previous = [], START
        for token_id in tokens:
            previous = cell(previous, token_id)
            cells.append(previous)
        tokens.append(drawn(cells))
    return tokens[len(prompt) :]


class ChainKv:
    """KvStore: [layer][k,v][block][slot][bytes]."""

    def __init__(self, block_count: int) -> None:
        shape = (LAYOUT.layers, 2, block_count, BLOCK_SIZE, CELL_BYTES)
        self._values = np.full(shape, 0xEE, dtype=np.uint8)

    def read_blocks(self, block_ids: Sequence[int]) -> bytes:
        return bytes(self._values[:, :, list(block_ids)].tobytes())

    def touch(self) -> bool:
        return False

    def write_blocks(self, block_ids: Sequence[int], payload: bytes) -> None:
        shape = (LAYOUT.layers, 2, len(block_ids), BLOCK_SIZE, CELL_BYTES)
        values = np.frombuffer(payload, dtype=np.uint8).reshape(shape)
        self._values[:, :, list(block_ids)] = values

    def read_cell(self, block: int, slot: int) -> bytes:
        """Raises AssertionError when layers and sides disagree."""
        value = bytes(self._values[0, 0, block, slot].tobytes())
        for layer in range(LAYOUT.layers):
            for side in range(2):
                held = self._values[layer, side, block, slot].tobytes()
                assert held == spread(value, layer, side), "layers of a position disagree"
        return value

    def write_cell(self, block: int, slot: int, value: bytes) -> None:
        for layer in range(LAYOUT.layers):
            for side in range(2):
                self._values[layer, side, block, slot] = np.frombuffer(
                    spread(value, layer, side), dtype=np.uint8
                )


class ChainRunner:
    """Runner over ChainKv."""

    def __init__(self, kv: ChainKv) -> None:
        self._kv = kv
        self.computed_tokens = 0
        self.fail_next: Exception | None = None

    def run(self, batch: StepBatch) -> list[SliceResult]:
        if self.fail_next is not None:
            raise self.fail_next
        return [self._compute(piece) for piece in batch.slices]

    def _compute(self, piece: BatchSlice) -> SliceResult:
        table = piece.block_table
        previous = START if piece.start == 0 else self._read(table, piece.start - 1)
        for position, token_id in enumerate(piece.token_ids, piece.start):
            previous = cell(previous, token_id)
            self._kv.write_cell(*self._place(table, position), previous)
        self.computed_tokens += len(piece.token_ids)
        scored = tuple(TokenSample(token_id, logprob=-1.0) for token_id in piece.next_token_ids)
        if piece.sample is None:
            return SliceResult(prompt_logprobs=scored)
        cells = [self._read(table, position) for position in range(piece.context_length)]
        return SliceResult((TokenSample(drawn(cells)),), scored)

    def _read(self, table: Sequence[int], position: int) -> bytes:
        return self._kv.read_cell(*self._place(table, position))

    def _place(self, table: Sequence[int], position: int) -> tuple[int, int]:
        return table[position // BLOCK_SIZE], position % BLOCK_SIZE


class FakeEngine:
    """The engine API over the parts above. Audited after every step. `steps`: None is no ration."""

    def __init__(
        self,
        *,
        block_count: int = 64,
        step_tokens_max: int = 8,
        sequences_max: int = 8,
        wrap: Callable[[Runner], Runner] = lambda runner: runner,
    ) -> None:
        self.block_count = block_count
        self.kv = ChainKv(block_count)
        self.runner = ChainRunner(self.kv)
        self._pool = BlockPool(block_count, BLOCK_SIZE)
        limits = SchedulerLimits(
            token_budget=step_tokens_max,
            sequences_max=sequences_max,
            context_length_max=block_count * BLOCK_SIZE,
        )
        identity = KvIdentity(LAYOUT.model_revision, LAYOUT.dtype)
        scheduler = Scheduler(limits, self._pool, identity, (EOS,))
        self._scheduler = scheduler
        self._engine = Engine(scheduler, self._pool, wrap(self.runner), self.kv)
        self._ration_lock = threading.Lock()
        self._ration: int | None = None
        self.commands: list[Command] = []

    @property
    def blocks_used(self) -> int:
        return self._pool.held_count

    @property
    def spent(self) -> bool:
        """Whether a ration is used up."""
        return self._ration == 0

    def ration(self, steps: int | None) -> None:
        """Model steps to come; None: as many as there is work for."""
        with self._ration_lock:
            self._ration = steps

    def apply(self, command: Command) -> None:
        self.commands.append(command)
        self._engine.apply(command)

    def step(self) -> StepReport:
        if self._ration == 0:  # what the commands did is told, nothing is computed
            added, removed = self._pool.take_changes()
            return StepReport(self._scheduler.take_events(), added, removed, self._scheduler.load())
        before = self._scheduler.load().step
        report = self._engine.step()
        self._engine.audit()
        with self._ration_lock:
            if self._ration is not None:
                self._ration -= report.load.step - before
        return report

    def has_work(self) -> bool:
        return self._ration != 0 and self._engine.has_work()


def greedy(max_tokens: int = 8, *, prompt_logprobs: int | None = None) -> SamplingParams:
    return SamplingParams(max_tokens, temperature=0.0, prompt_logprobs=prompt_logprobs)
