"""What may be planned while a step is under way, one situation at a time."""

import pytest
from baton.common.errors import EngineFailure
from baton.engine.blocks import BlockPool
from baton.engine.lookahead import LookAhead, drawn_on_host
from baton.engine.params import SamplingParams
from baton.engine.plan import PlannedSlice
from baton.engine.request import Phase, Request
from support.fixed_constraint import FixedConstraint

BLOCK_SIZE = 4
CONTEXT = 16


def running(
    prompt: int = 3, params: SamplingParams | None = None, *, export: bool = False
) -> Request:
    """All but its last token are computed, in as many blocks as they take."""
    request = Request(
        "r", tuple(range(prompt)), params or SamplingParams(5), b"root", export=export
    )
    request.phase = Phase.RUNNING
    request.computed = prompt - 1
    return request


def ahead(pool: BlockPool | None = None) -> LookAhead:
    return LookAhead(pool or BlockPool(8, BLOCK_SIZE), CONTEXT)


def test_a_launched_request_goes_on_behind_the_token_nobody_knows() -> None:
    look, request = ahead(), running()
    look.launch([PlannedSlice(request, 1)])
    assert (request.start, request.pending, request.computed) == (3, 1, 2)
    assert look.goes_on(request)
    following = PlannedSlice(request, 1)
    assert (following.start, following.samples) == (3, True)
    assert look.slice_index(request) == 0
    assert look.slice_index(running()) is None


def test_landing_takes_the_launch_back() -> None:
    look, request = ahead(), running()
    planned = [PlannedSlice(request, 1)]
    look.launch(planned)
    look.land(planned)
    assert (request.start, request.launched, request.drawing) == (2, 0, 0)
    assert look.idle


@pytest.mark.parametrize(
    "request_",
    [
        running(params=SamplingParams(1)),  # its last token is being drawn
        running(prompt=CONTEXT - 1),  # there is no room for another
        running(export=True),  # it stops after its first token
    ],
    ids=["length", "context", "export"],
)
def test_what_certainly_ends_is_not_gone_on_with(request_: Request) -> None:
    look = ahead()
    look.launch([PlannedSlice(request_, 1)])
    assert not look.goes_on(request_)


@pytest.mark.parametrize(
    ("params", "waits"),
    [
        (SamplingParams(9), False),
        (SamplingParams(9, temperature=0.0), False),
        (SamplingParams(9, top_k=3, top_p=0.5, min_p=0.1), False),
        (SamplingParams(9, logprobs=0), True),
        (SamplingParams(9, presence_penalty=0.1), True),
        (SamplingParams(9, logit_bias=((3, 1.0),)), True),
        (SamplingParams(9, min_tokens=1), True),
    ],
)
def test_a_token_that_the_host_chooses_is_waited_for(params: SamplingParams, waits: bool) -> None:
    require_wait(running(params=params), waits)


def test_so_is_one_that_a_grammar_lets_through() -> None:
    request = running()
    request.constraint = FixedConstraint({}, 8)
    require_wait(request, waits=True)


def require_wait(request: Request, waits: bool) -> None:
    look = ahead()
    assert drawn_on_host(request) is waits
    assert not look.must_wait([request]), "nothing is under way"
    look.launch([PlannedSlice(request, 1)])
    assert look.must_wait([request]) is waits


def test_how_many_guesses_are_right_is_waited_for() -> None:
    look, request = ahead(), running()
    look.launch([PlannedSlice(request, 1, (5, 6))])
    assert look.must_wait([request])


def test_a_block_that_only_preemption_would_free_is_waited_for() -> None:
    pool = BlockPool(2, BLOCK_SIZE)
    look, request = ahead(pool), running(prompt=4)
    request.block_table = pool.allocate(1)
    look.launch([PlannedSlice(request, 1)])  # its next token needs a second block
    assert not look.must_wait([request])
    pool.allocate(1)
    assert look.must_wait([request])


def test_blocks_of_an_ended_request_are_kept_until_its_step_has_ended() -> None:
    pool = BlockPool(2, BLOCK_SIZE)
    look, request = ahead(pool), running()
    request.block_table = pool.allocate(2)
    planned = [PlannedSlice(request, 1)]
    look.launch(planned)
    look.release(request)
    assert pool.free_count == 0
    assert list(look.held_tables) == [[0, 1]]
    look.land(planned)
    assert pool.free_count == 2
    assert list(look.held_tables) == []


def test_blocks_of_a_request_without_a_step_are_free_at_once() -> None:
    pool = BlockPool(2, BLOCK_SIZE)
    look, request = ahead(pool), running()
    request.block_table = pool.allocate(2)
    look.launch([PlannedSlice(running(), 1)])
    look.release(request)
    assert pool.free_count == 2


def test_steps_are_few_and_end_in_order() -> None:
    look = ahead()
    first, second = [PlannedSlice(running(), 1)], [PlannedSlice(running(), 1)]
    look.launch(first)
    look.launch(second)
    with pytest.raises(EngineFailure, match="one more"):
        look.launch([PlannedSlice(running(), 1)])
    with pytest.raises(EngineFailure, match="order"):
        look.land(second)
    look.land(first)
    look.land(second)
    with pytest.raises(EngineFailure, match="order"):
        look.land(first)
