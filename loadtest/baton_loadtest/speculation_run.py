"""What prompt lookup gains: the same requests with and without guesses, on two kinds of text.

Story: passages of a text are continued, once as they are (drawn, so that nothing repeats), and once
after the passage and its first words again, which the model goes on to repeat. Each kind runs in
rounds that alternate without and with guesses, so that a busy machine disturbs both alike. The
tokens must be the same. Knows an engine and a clock; draws nothing but from its seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from baton.common.clock import Clock
from baton.common.errors import EngineFailure
from baton.engine.costmodel import CostModel
from baton.engine.engine import Engine
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams
from baton.engine.runner import CpuRunner
from baton.engine.speculation import PromptLookupGuesser, StepCosts

from baton_loadtest.local_engine import local_engine

PASSAGE_TOKENS = 192
ECHO_TOKENS = 24
"""The first words again: enough for the model to see what is going on."""


class Kind(Enum):
    REPEATING = "repeating"
    ORDINARY = "ordinary"


@dataclass(frozen=True, slots=True)
class SpeculationOptions:
    batch: int  # requests at once
    tokens: int  # of each answer
    rounds: int  # of each mode
    guesses_max: int


@dataclass(frozen=True, slots=True)
class SpeculationRow:
    """One kind of text at one batch size."""

    kind: str
    batch: int
    plain_tokens_per_s: float  # of the median round, decode steps alone
    guessing_tokens_per_s: float
    guesses_made: int
    guesses_accepted: int
    tokens: int  # of all rounds with guesses

    @property
    def gain(self) -> float:
        return self.guessing_tokens_per_s / self.plain_tokens_per_s

    @property
    def acceptance(self) -> float | None:
        return self.guesses_accepted / self.guesses_made if self.guesses_made else None


@dataclass(frozen=True, slots=True)
class _Round:
    outputs: tuple[tuple[int, ...], ...]
    decode_s: float
    guesses_made: int
    guesses_accepted: int


def requests_of(
    kind: Kind, passages: Sequence[Sequence[int]], tokens: int
) -> list[tuple[tuple[int, ...], SamplingParams]]:
    """A prompt and its parameters per passage."""
    if kind is Kind.REPEATING:
        params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        return [((*passage, *passage[:ECHO_TOKENS]), params) for passage in passages]
    return [
        (tuple(passage), SamplingParams(max_tokens=tokens, seed=seed, ignore_eos=True))
        for seed, passage in enumerate(passages)
    ]


def measure_speculation(
    runner: CpuRunner,
    kind: Kind,
    passages: Sequence[Sequence[int]],
    options: SpeculationOptions,
    clock: Clock,
) -> SpeculationRow:
    """`passages`: one per request. Raises EngineFailure when guesses change a token."""
    requests = requests_of(kind, passages[: options.batch], options.tokens)
    costs = CostModel()
    plain: list[_Round] = []
    guessing: list[_Round] = []
    for _ in range(options.rounds):
        plain.append(_run(local_engine(runner), requests, costs, clock))
        guesser = PromptLookupGuesser(_step_costs(costs), guesses_max=options.guesses_max)
        guessing.append(_run(local_engine(runner, guesser), requests, costs, clock))
        if guessing[-1].outputs != plain[-1].outputs:
            raise EngineFailure("guesses changed a token")
    tokens = sum(len(output) for output in plain[0].outputs)
    return SpeculationRow(
        kind=kind.value,
        batch=options.batch,
        plain_tokens_per_s=tokens / _median([done.decode_s for done in plain]),
        guessing_tokens_per_s=tokens / _median([done.decode_s for done in guessing]),
        guesses_made=sum(done.guesses_made for done in guessing),
        guesses_accepted=sum(done.guesses_accepted for done in guessing),
        tokens=tokens * options.rounds,
    )


def _run(
    engine: Engine,
    requests: Sequence[tuple[tuple[int, ...], SamplingParams]],
    costs: CostModel,
    clock: Clock,
) -> _Round:
    """Every request to its end; only steps that compute no prompt are timed."""
    outputs: dict[str, list[int]] = {}
    for number, (prompt, params) in enumerate(requests):
        outputs[str(number)] = []
        engine.apply(Submit(str(number), prompt, params))
    decode_s, made, accepted = 0.0, 0, 0
    while engine.has_work():
        began_s = clock.monotonic_s()
        report = engine.step()
        step_s = clock.monotonic_s() - began_s
        if report.shape is not None:
            costs.learn(report.shape, step_s)  # as a worker does
            decode_s += 0.0 if report.shape.prefill_tokens else step_s
        made, accepted = report.load.guesses_made, report.load.guesses_accepted
        for event in report.events:
            if isinstance(event, Tokens):
                outputs[event.request_id] += [sample.token_id for sample in event.tokens]
    return _Round(tuple(map(tuple, outputs.values())), decode_s, made, accepted)


def _step_costs(costs: CostModel) -> Callable[[], StepCosts]:
    def known() -> StepCosts:
        return StepCosts(costs.coefficients.fixed_s, costs.coefficients.decode_row_s)

    return known


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
