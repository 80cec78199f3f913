"""A step's numbers reach the device where its kernels, and its graphs, look for them."""

import numpy as np
import pytest
import torch
from baton.common.errors import EngineFailure
from baton.engine.batch import BatchSlice, SampleRequest
from baton.engine.cuda.filling import Filler, shape_step
from baton.engine.cuda.inputs import InputLayout, StepInputs, view_inputs
from baton.engine.params import SamplingParams

GREEDY = SamplingParams(max_tokens=8, temperature=0.0)
BLOCK_SIZE = 4


def piece(
    name: str,
    tokens: tuple[int, ...],
    start: int,
    table: list[int],
    params: SamplingParams | None = GREEDY,
    follows: int | None = None,
    drawing: int = 0,
) -> BatchSlice:
    sample = None
    if params is not None:
        known = start + len(tokens) - drawing
        sample = SampleRequest(params, (0,) * known, [], (), drawing)
    return BatchSlice(name, tokens, start, table, sample, follows=follows)


def filler() -> Filler:
    return Filler(block_size=BLOCK_SIZE, block_count=32, vocab_size=100)


def inputs_of(
    slices: list[BatchSlice],
    sizes: tuple[int, ...] = (),
    sources: dict[int, int] | None = None,
    by: Filler | None = None,
) -> StepInputs:
    shape = shape_step(slices, sizes)
    memory = np.full(shape.layout.nbytes, 0xA5, np.uint8)
    (by or filler()).fill(shape, memory, sources or {})
    return view_inputs(torch.from_numpy(memory), shape.layout)


def test_rows_of_a_mixed_step_know_their_place() -> None:
    inputs = inputs_of(
        [
            piece("a", (7, 8, 9), 3, [5, 2]),
            piece("b", (1,), 4, [9, 30], None),
            piece("c", (2,), 0, [4]),
        ]
    )
    assert inputs.tokens.tolist() == [7, 8, 9, 1, 2]
    assert inputs.positions.tolist() == [3, 4, 5, 4, 0]
    assert inputs.write_slots.tolist() == [5 * 4 + 3, 2 * 4, 2 * 4 + 1, 30 * 4, 4 * 4]
    assert inputs.query_starts.tolist() == [0, 3, 4, 5]
    assert inputs.context_lengths.tolist() == [6, 5, 1]
    assert inputs.block_tables.tolist() == [[5, 2], [9, 30], [4, 0]]
    assert inputs.sample_rows.tolist() == [2, 4]  # b has more to compute before it draws
    assert inputs.sources.tolist() == [-1] * 5


def test_a_decode_step_is_padded_to_its_graph_and_padding_does_nothing() -> None:
    slices = [piece("a", (7,), 3, [5]), piece("b", (8,), 4, [1, 2], None), piece("c", (9,), 0, [3])]
    inputs = inputs_of(slices, sizes=(1, 2, 4, 8))
    assert inputs.tokens.tolist() == [7, 8, 9, 0]
    assert inputs.write_slots.tolist() == [23, 8, 12, -1]
    assert inputs.context_lengths.tolist() == [4, 5, 1, 0]
    assert inputs.query_starts.tolist() == [0, 1, 2, 3, 3]
    assert inputs.sample_rows.tolist() == [0, 1, 2, 3]  # every row has its sample
    assert inputs.draw_positions.tolist() == [4, -1, 1, -1]  # those that draw nothing are padding
    assert shape_step(slices, (1, 2)).graph_size is None
    assert shape_step([piece("a", (7, 8), 3, [5, 6])], (1, 2)).graph_size is None


def test_what_a_draw_asks_for_arrives_bit_by_bit() -> None:
    params = SamplingParams(9, temperature=0.7, top_p=0.9, top_k=40, min_p=0.05, seed=2**64 - 3)
    inputs = inputs_of([piece("a", (7,), 3, [5], params)])
    assert inputs.seeds.tolist() == [-3]  # the bits of the unsigned seed
    assert inputs.temperature.tolist() == pytest.approx([0.7])
    assert inputs.top_p.tolist() == pytest.approx([0.9])
    assert inputs.min_p.tolist() == pytest.approx([0.05])
    assert inputs.top_k.tolist() == [40]


def test_a_token_nobody_knows_yet_names_the_sample_it_is() -> None:
    slices = [piece("a", (5,), 2, [1]), piece("b", (0,), 6, [2, 3], follows=3, drawing=1)]
    inputs = inputs_of(slices, sources={3: 11})
    assert inputs.sources.tolist() == [-1, 11]
    assert inputs.draw_positions.tolist() == [3, 7]
    with pytest.raises(EngineFailure, match="follows"):
        inputs_of(slices, sources={2: 11})


def test_guesses_draw_a_row_each() -> None:
    sample = SampleRequest(GREEDY, (1, 2, 3), [], ())
    guessing = BatchSlice("a", (3, 50, 51), 2, [7, 8], sample, guesses=2)
    inputs = inputs_of([guessing], sizes=(1, 2, 4))
    assert inputs.sample_rows.tolist() == [0, 1, 2]
    assert inputs.draw_positions.tolist() == [3, 4, 5]


def test_places_hang_on_counts_alone_so_that_graphs_find_them() -> None:
    narrow, wide = InputLayout(8, 8, 8, 3), InputLayout(8, 8, 8, 90)
    for name in narrow.shapes:
        assert narrow.places[name][0] == wide.places[name][0]
    assert narrow.places["seeds"][0] % 8 == 0


def test_a_grown_table_is_read_on_and_another_one_anew() -> None:
    same = filler()
    table = [5]
    assert inputs_of([piece("a", (1,), 3, table)], by=same).block_tables.tolist() == [[5]]
    table.append(6)
    assert inputs_of([piece("a", (1,), 4, table)], by=same).block_tables.tolist() == [[5, 6]]
    other = [9, 8]  # preempted and admitted again
    assert inputs_of([piece("a", (1,), 5, other)], by=same).block_tables.tolist() == [[9, 8]]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (piece("a", (100,), 0, [1]), "vocabulary"),
        (piece("a", (-1,), 0, [1]), "vocabulary"),
        (piece("a", (1,), 0, [32]), "block id"),
        (piece("a", (1,), 4, [1]), "shorter"),
        (piece("a", (), 0, [1]), "no rows"),
    ],
)
def test_numbers_that_would_read_elsewhere_are_refused(bad: BatchSlice, why: str) -> None:
    with pytest.raises(EngineFailure, match=why):
        inputs_of([bad])
