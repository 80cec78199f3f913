"""Attention over the paged cache: which kernel takes which rows, and with how many splits.

A sequence with few rows in the step (decode, guesses) is bound by memory: its keys are split among
programs, whose parts are put together after (`attention_few`). A longer piece of a prompt is bound
by arithmetic: its rows are cut into tiles (`attention_tiles`). Query heads that share a key head
are folded into the rows of one product. Knows shapes; knows no model and no cache but this layer's.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import triton

from baton.engine.cuda.kernels.attention_few import (
    COMBINE_WARPS,
    COMBINED,
    attend_few,
    combine_parts,
)
from baton.engine.cuda.kernels.attention_plan import few_rows, few_shape, tiles_shape
from baton.engine.cuda.kernels.attention_tiles import attend_tiles
from baton.engine.cuda.kernels.launch import launch
from baton.engine.cuda.kernels.rope import KvScales


class SequenceInputs(Protocol):
    """The sequences of a step, as attention reads them: int32, on the device, of static shape."""

    @property
    def query_starts(self) -> torch.Tensor:
        """[S + 1] first row of each sequence and the end of the last; padding has no rows."""
        ...

    @property
    def context_lengths(self) -> torch.Tensor:
        """[S] tokens in the cache, the step's own included: the last row sees all of them."""
        ...

    @property
    def block_tables(self) -> torch.Tensor:
        """[S, W] contiguous; entries behind a sequence's context are never read."""
        ...


@dataclass(frozen=True, slots=True)
class SplitWorkspace:
    """Where splits leave their parts; shared by all layers of a step, and by all graphs."""

    sums: torch.Tensor  # [parts, head_size] float32, weighted values
    weights: torch.Tensor  # [parts, 2] float32: highest score and sum of weights

    @classmethod
    def allocate(cls, *, parts: int, head_size: int, device: torch.device) -> "SplitWorkspace":
        """`parts`: the most that `attention_plan.parts_needed` says of any step."""
        return cls(
            sums=torch.empty(parts, head_size, device=device),
            weights=torch.empty(parts, 2, device=device),
        )


def attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    kv_scales: KvScales | None,
    inputs: SequenceInputs,
    out: torch.Tensor,
    *,
    window: int | None,
    rows_max: int,
    splits: int,
    workspace: SplitWorkspace,
) -> None:
    """q [T, heads, head_size] -> out [T, heads * head_size], rows in the order of q.

    keys, values [blocks, block_size, kv_heads, head_size], with `kv_scales` where they are of 8
    bits; they hold the rows' own already. `window`: tokens a row sees, itself included. `rows_max`:
    rows of the longest sequence (1 for decode), known to the host as it decides what is launched.
    `splits`: see `plan_splits`. Rows of no sequence stay as they are.
    """
    call = _Call(q, keys, values, kv_scales, inputs, out, window or 0)
    call.check()
    if min(call.sequences, rows_max) == 0:
        return
    bound = min(rows_max, few_rows(call.heads, call.kv_heads))
    if rows_max > bound:
        _launch_tiles(call, bound)
    # a long piece beside no other leaves the split kernel nothing
    if rows_max == bound or call.sequences > 1:
        _launch_few(call, bound, splits, workspace)


@dataclass(frozen=True, slots=True)
class _Call:
    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    kv_scales: KvScales | None
    inputs: SequenceInputs
    out: torch.Tensor
    window: int  # 0: none

    @property
    def sequences(self) -> int:
        return len(self.inputs.context_lengths)

    @property
    def heads(self) -> int:
        return self.q.shape[1]

    @property
    def kv_heads(self) -> int:
        return self.keys.shape[2]

    @property
    def head_size(self) -> int:
        return self.q.shape[2]

    def check(self) -> None:
        tensors = (self.q, self.keys, self.values, self.inputs.block_tables, self.out)
        assert all(tensor.is_contiguous() for tensor in tensors)
        assert (self.keys.element_size() == 1) == (self.kv_scales is not None)

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """The first arguments of either kernel."""
        scales = self.kv_scales or (None, None)
        inputs = self.inputs
        sequences = (inputs.query_starts, inputs.context_lengths, inputs.block_tables)
        return (self.q, self.keys, self.values, *scales, *sequences, self.out)

    def scale(self) -> float:
        """Of scores, in base 2: the kernels' exponential."""
        return math.log2(math.e) / math.sqrt(self.head_size)

    def table_width(self) -> int:
        return self.inputs.block_tables.shape[1]

    def constants(self) -> dict[str, int]:
        return {
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_size": self.head_size,
            "block_size": self.keys.shape[1],
            "window": self.window,
            "block_d": max(16, triton.next_power_of_2(self.head_size)),
        }


def _launch_tiles(call: _Call, bound: int) -> None:
    """`bound`: sequences of so many rows are left to the split kernel."""
    shape = tiles_shape(call.head_size, call.q.element_size())
    tile_rows = shape.block_m // (call.heads // call.kv_heads)
    # as many tiles as any division of the rows among the sequences can make
    tiles = len(call.q) // tile_rows + call.sequences
    launch(
        attend_tiles,
        (call.kv_heads, tiles),
        *call.tensors(),
        call.scale(),
        call.table_width(),
        call.sequences,
        rows_few=bound,
        block_m=shape.block_m,
        block_n=shape.block_n,
        num_warps=shape.warps,
        num_stages=shape.stages,
        **call.constants(),
    )


def _launch_few(call: _Call, bound: int, splits: int, workspace: SplitWorkspace) -> None:
    """Sequences of at most `bound` rows."""
    assert call.sequences * bound * call.heads * splits <= len(workspace.sums) or splits == 1
    group = call.heads // call.kv_heads
    element, cached = call.q.element_size(), call.keys.element_size()
    shape = few_shape(call.head_size, element, cached, group)
    launch(
        attend_few,
        (call.kv_heads, call.sequences, splits),
        *call.tensors(),
        workspace.sums,
        workspace.weights,
        call.scale(),
        call.table_width(),
        bound,
        splits,
        split=splits > 1,
        block_m=shape.block_m,
        block_n=shape.block_n,
        num_warps=shape.warps,
        num_stages=shape.stages,
        **call.constants(),
    )
    if splits > 1:
        constants = call.constants()
        launch(
            combine_parts,
            (call.heads, call.sequences, bound),
            call.inputs.query_starts,
            call.inputs.context_lengths,
            call.out,
            workspace.sums,
            workspace.weights,
            splits,
            heads=call.heads,
            head_size=call.head_size,
            window=call.window,
            block_n=shape.block_n,
            block_d=constants["block_d"],
            combined=COMBINED,
            num_warps=COMBINE_WARPS,
        )
