"""vLLM's times of a request, from the engine's turns."""

from collections.abc import Sequence

import pytest
from baton.common.errors import PromptTooLong
from baton.common.metrics import Metrics
from baton.engine.messages import EngineLoad, Event, StepReport, Submit, Tokens
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.worker.timing import RequestTimes
from baton.worker.turns import Refused, Turn
from prometheus_client import CollectorRegistry

LOAD = EngineLoad(0, 0, 0, 0, 0)
ONE = (TokenSample(7),)


class Times:
    """Feeds turns, reads sums of seconds."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._times = RequestTimes(Metrics(self._registry, model_name="m"))

    def turn(
        self,
        planned_s: float,
        ended_s: float,
        *,
        submitted: Sequence[tuple[Submit, float]] = (),
        admitted: Sequence[str] = (),
        events: Sequence[Event] = (),
        refused: Sequence[Refused] = (),
    ) -> None:
        report = StepReport(tuple(events), (), (), LOAD, admitted=tuple(admitted))
        duration_s = ended_s - planned_s
        told = Turn(report, tuple(refused), duration_s, planned_s, ended_s, tuple(submitted))
        self._times.observe(told)

    def seconds(self, stage: str) -> tuple[float, int]:
        """Sum and count."""
        name, labels = f"vllm:request_{stage}_time_seconds", {"model_name": "m"}
        total = self._registry.get_sample_value(f"{name}_sum", labels)
        count = self._registry.get_sample_value(f"{name}_count", labels)
        assert total is not None
        assert count is not None
        return round(total, 6), int(count)

    @property
    def live(self) -> int:
        return self._times.live


def submit(request_id: str = "a", *, export: bool = False) -> Submit:
    return Submit(request_id, (1, 2, 3), SamplingParams(4), export=export)


@pytest.fixture
def times() -> Times:
    return Times()


def test_a_request_waits_is_prefilled_and_decodes(times: Times) -> None:
    times.turn(1.0, 1.5, submitted=[(submit(), 0.9)])  # others have all blocks
    times.turn(2.0, 2.5, admitted=["a"])  # a part of its prompt
    times.turn(3.0, 3.5, events=[Tokens("a", ONE)])
    times.turn(4.0, 4.5, events=[Tokens("a", ONE)])
    times.turn(5.0, 5.5, events=[Tokens("a", ONE, finish=FinishReason.STOP)])
    assert times.seconds("queue") == (1.1, 1)
    assert times.seconds("prefill") == (1.5, 1)
    assert times.seconds("decode") == (2.0, 1)
    assert times.seconds("inference") == (3.5, 1)
    assert times.live == 0


def test_waiting_for_the_step_under_way_counts(times: Times) -> None:
    times.turn(1.0, 1.5, submitted=[(submit(), 0.25)], admitted=["a"])
    assert times.seconds("queue") == (0.75, 1)


def test_a_preempted_request_is_admitted_once(times: Times) -> None:
    times.turn(1.0, 2.0, submitted=[(submit(), 1.0)], admitted=["a"])
    times.turn(5.0, 6.0, admitted=["a"], events=[Tokens("a", ONE, finish=FinishReason.STOP)])
    assert times.seconds("queue") == (0.0, 1)
    assert times.seconds("prefill") == (5.0, 1)


def test_a_prompt_handed_over_ends_with_its_first_token(times: Times) -> None:
    times.turn(1.0, 2.0, submitted=[(submit(export=True), 1.0)], admitted=["a"])
    times.turn(2.0, 3.0, events=[Tokens("a", ONE)])
    assert times.seconds("inference") == (2.0, 1)
    assert times.seconds("decode") == (0.0, 0)
    assert times.live == 0


@pytest.mark.parametrize("admitted", [(), ("a",)], ids=["waiting", "computing"])
def test_a_cancelled_request_is_forgotten_and_was_never_decoded(
    times: Times, admitted: Sequence[str]
) -> None:
    times.turn(1.0, 2.0, submitted=[(submit(), 1.0)], admitted=admitted)
    times.turn(2.0, 3.0, events=[Tokens("a", finish=FinishReason.CANCELLED)])
    assert times.seconds("inference") == times.seconds("prefill") == (0.0, 0)
    assert times.live == 0


def test_a_refused_request_is_forgotten(times: Times) -> None:
    refused = Refused("a", PromptTooLong("too long"))
    times.turn(1.0, 2.0, submitted=[(submit(), 1.0)], refused=[refused])
    assert times.live == 0


def test_tokens_of_unknown_requests_are_nobodys(times: Times) -> None:
    times.turn(1.0, 2.0, admitted=["x"], events=[Tokens("x", ONE)])
    assert times.seconds("queue") == times.seconds("prefill") == (0.0, 0)
