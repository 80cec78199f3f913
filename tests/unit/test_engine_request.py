"""A request lives through the phases of its table and no others."""

import pytest
from baton.common.errors import IllegalTransition
from baton.engine.identity import block_ids, root_id
from baton.engine.params import FinishReason, SamplingParams
from baton.engine.request import TRANSITIONS, Happening, Phase, Request

ROOT = root_id(model_revision="m", dtype="float32", block_size=4)


def request(
    prompt: tuple[int, ...] = (5, 6, 7), output: tuple[int, ...] = (), **params: int | bool
) -> Request:
    wanted = SamplingParams(**{"max_tokens": 10, **params})  # type: ignore[arg-type]
    return Request("r", prompt, wanted, ROOT, output=list(output))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("happening", Happening)
def test_every_phase_takes_only_what_its_table_says(phase: Phase, happening: Happening) -> None:
    subject = request()
    subject.phase = phase
    if (phase, happening) in TRANSITIONS:
        subject.advance(happening)
        assert subject.phase is TRANSITIONS[phase, happening]
    else:
        with pytest.raises(IllegalTransition, match=f"{happening.value} is illegal"):
            subject.advance(happening)
        assert subject.phase is phase


def test_every_phase_can_be_reached_and_only_finished_is_final() -> None:
    assert set(TRANSITIONS.values()) == set(Phase)
    assert {phase for phase, _ in TRANSITIONS} == set(Phase) - {Phase.FINISHED}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 2, [5, 6]), (1, 4, [6, 7, 8]), (3, 5, [8, 9]), (0, 5, [5, 6, 7, 8, 9])],
)
def test_tokens_run_from_prompt_into_output(start: int, end: int, expected: list[int]) -> None:
    assert list(request(output=(8, 9)).tokens(start, end)) == expected


def test_block_ids_grow_with_the_output_and_equal_the_chain_the_router_computes() -> None:
    subject = request(prompt=(1, 2, 3, 4, 5), output=(6, 7, 8))
    first = list(subject.block_ids(1, 4))
    both = list(subject.block_ids(2, 4))
    assert both == block_ids(ROOT, (1, 2, 3, 4, 5, 6, 7, 8), 4)
    assert both[:1] == first


@pytest.mark.parametrize(
    ("output", "params", "reason"),
    [
        ((4, 1), {}, FinishReason.STOP),
        ((4, 1), {"ignore_eos": True}, None),
        ((4, 1), {"min_tokens": 3}, None),
        ((4, 9), {"stop_token_ids": (9,)}, FinishReason.STOP),
        ((4, 9), {"stop_token_ids": (9,), "ignore_eos": True}, FinishReason.STOP),
        ((4, 5), {"max_tokens": 2}, FinishReason.LENGTH),
        ((4, 1), {"max_tokens": 2}, FinishReason.STOP),
        ((4, 5, 6, 7, 8), {}, FinishReason.LENGTH),  # 3 + 5 tokens fill the capacity of 8
        ((4, 5), {}, None),
    ],
)
def test_the_last_token_decides_the_end(
    output: tuple[int, ...], params: dict[str, int | bool], reason: FinishReason | None
) -> None:
    subject = request(output=output, **params)
    assert subject.finish_reason(eos_token_ids=(1,), capacity_tokens=8) is reason
