"""What the GPU's bench counts end to end: whose tokens, in which time, beside which figure."""

import json
from collections.abc import Coroutine, Sequence
from dataclasses import replace

import pytest
from baton.common.errors import Unavailable
from baton_loadtest.gpu_end_to_end import (
    EndToEndBench,
    EndToEndTable,
    Step,
    steady_tokens_per_s,
)
from baton_loadtest.gpu_report import (
    EndToEndFound,
    GpuFigure,
    GpuReport,
    HandoffFigures,
    decode_work,
    gpu_json,
)
from baton_loadtest.gpu_roofline import DeviceRates
from baton_loadtest.stats import Observation
from baton_loadtest.workload import PlannedRequest

FIRST_TOKEN_S, STEP_S = 0.5, 0.25


class Server:
    """Answers every request after the same time, a token each step; notes what was sent."""

    def __init__(self) -> None:
        self.runs: list[Sequence[PlannedRequest]] = []

    async def run(
        self, requests: Sequence[PlannedRequest], *, limit_s: float
    ) -> tuple[Observation, ...]:
        self.runs.append(requests)
        return tuple(answered(0.0, request.output_tokens) for request in requests)


class Stack:
    """Runs what it is asked to, until it has ended."""

    ended: str | None = None

    async def while_up(self, work: Coroutine[None, None, None]) -> None:
        await work


def answered(sent_s: float, tokens: int, *, chunks: int | None = None) -> Observation:
    times_s = tuple(sent_s + FIRST_TOKEN_S + STEP_S * index for index in range(chunks or tokens))
    return Observation(sent_s, times_s, 10, tokens, 0)


def test_tokens_count_between_the_last_beginning_and_the_first_end() -> None:
    early, late = answered(0.0, 9), answered(1.0, 9)
    # from 1.5 to 2.5 s: four steps, two tokens each
    assert steady_tokens_per_s([early, late]) == 8.0


@pytest.mark.parametrize(
    ("late", "problem"),
    [(answered(60.0, 9), "ended before"), (answered(0.0, 9, chunks=5), "several in a chunk")],
)
def test_what_cannot_be_counted_is_no_figure(late: Observation, problem: str) -> None:
    with pytest.raises(Unavailable, match=problem):
        steady_tokens_per_s([answered(0.0, 9), late])


async def test_decode_is_measured_on_prompts_that_came_by_the_whole_road_before() -> None:
    server = Server()
    bench = EndToEndBench(server, output_tokens=8)
    assert await bench.decode_tokens_per_s(3, 64) == 3 / STEP_S
    before, measured = server.runs
    assert [request.prompt for request in before] == [request.prompt for request in measured]
    assert len({request.prompt for request in measured}) == 3
    # half of the answer is written before the context has its length, half after
    assert {(len(one.prompt), one.output_tokens) for one in measured} == {(60, 8)}
    assert {one.output_tokens for one in before} == {2}


async def test_prefill_is_a_prompt_to_its_first_token_and_never_the_same_prompt() -> None:
    server = Server()
    assert await EndToEndBench(server).prefill_tokens_per_s(100) == 100 / FIRST_TOKEN_S
    prompts = [run[0].prompt for run in server.runs]
    assert len(set(prompts)) == len(prompts) > 1


def test_a_hand_off_costs_what_neither_prefill_nor_moving_took() -> None:
    handoff = HandoffFigures(
        prompts=8,
        prompt_tokens=960,
        moved_bytes=1e8,
        called_s=0.135,
        prefill_s=0.030,
        bytes_per_s=1e9,
    )
    assert handoff.beyond_transfer_s == pytest.approx(0.005)


def test_every_figure_end_to_end_is_kept_beside_the_engine_alone() -> None:
    report = GpuReport(
        machine="a machine",
        commit="0a1b2c3",
        shape="llama-3.1-8b",
        quantization="bf16",
        kv_dtype="bfloat16",
        context_tokens=1_024,
        rates=DeviceRates(4e12, 7e14),
        figures=[GpuFigure(decode_work(8), 8, 120.0, 240.0)],
        end_to_end=EndToEndFound(
            {decode_work(8): 90.0},
            {"remote": 7, "cached": 8},
            HandoffFigures(8, 960, 1e8, 0.135, 0.030, 1e9),
        ),
    )
    kept = json.loads(gpu_json(report))
    assert kept["end_to_end"]["tokens_per_s"] == {decode_work(8): 90.0}
    assert kept["figures"][0]["end_to_end_of_engine"] == 0.75
    assert kept["end_to_end"]["prompts"] == {"remote": 7, "cached": 8}
    assert kept["end_to_end"]["handoff"]["beyond_transfer_s"] == pytest.approx(0.005)


async def filled(stack: Stack, **rates: float | Exception) -> tuple[list[EndToEndFound], list[str]]:
    """What is told of steps that find these rates, or fail; and what is heard."""
    told: list[EndToEndFound] = []
    heard: list[str] = []

    def step(name: str, rate: float | Exception) -> Step:
        async def measured(found: EndToEndFound) -> EndToEndFound:
            if isinstance(rate, Exception):
                raise rate
            return replace(found, tokens_per_s={**found.tokens_per_s, name: rate})

        return measured

    table = EndToEndTable(stack, heard.append, told.append)
    failing = [name for name, rate in rates.items() if isinstance(rate, Exception)]
    steps = [(name, step(name, rate)) for name, rate in rates.items()]
    if not failing:
        await table.fill(steps)
    else:
        with pytest.raises(Unavailable) as caught:
            await table.fill(steps)
        assert caught.value.__cause__ is rates[failing[0]]
    return told, heard


async def test_every_step_is_told_with_all_that_came_before_it() -> None:
    told, heard = await filled(Stack(), a=1.0, b=2.0)
    assert [dict(one.tokens_per_s) for one in told] == [{"a": 1.0}, {"a": 1.0, "b": 2.0}]
    assert heard[1] == "end to end: b: 2 tok/s"


async def test_a_step_that_fails_leaves_the_others() -> None:
    told, heard = await filled(Stack(), a=1.0, b=Unavailable("no rate"), c=RuntimeError(), d=4.0)
    assert dict(told[-1].tokens_per_s) == {"a": 1.0, "d": 4.0}
    assert heard[1] == "end to end: b failed: Unavailable('no rate')"


async def test_where_a_process_has_ended_nobody_is_asked_any_more() -> None:
    stack = Stack()
    stack.ended = "decode"
    told, heard = await filled(stack, a=1.0, b=Unavailable("decode ended"), c=4.0)
    assert [dict(one.tokens_per_s) for one in told] == [{"a": 1.0}]
    assert len(heard) == 2
