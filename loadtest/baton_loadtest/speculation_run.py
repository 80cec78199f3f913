"""What guessing ahead gains: the same requests with and without guesses, on three kinds of text.

Story: passages of a text are continued, once as they are (drawn, so that nothing repeats), and once
after the passage and its first words again, which the model goes on to repeat; prompt lookup
guesses. A third time records are written that follow a schema, which makes much of them certain.
Each kind runs in rounds that alternate without and with guesses, so that a busy machine disturbs
both alike. The tokens must be the same. Knows an engine and a clock; draws nothing but from its
seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from baton.common.clock import Clock
from baton.common.errors import EngineFailure
from baton.engine.constraint import Constraint
from baton.engine.costmodel import CostModel
from baton.engine.engine import Engine
from baton.engine.forced import ForcedGuesser
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams
from baton.engine.runner import CpuRunner
from baton.engine.speculation import Guesser, PromptLookupGuesser, StepCosts
from baton.model.grammar_text import schema_grammar

from baton_loadtest.local_engine import local_engine

PASSAGE_TOKENS = 192
ECHO_TOKENS = 24
"""The first words again: enough for the model to see what is going on."""


class Kind(Enum):
    REPEATING = "repeating"
    ORDINARY = "ordinary"
    SCHEMA = "schema"


RECORDS: dict[str, object] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "subject": {"type": "string", "maxLength": 24},
            "kind": {"enum": ["person", "place", "thing"]},
            "importance": {"type": "integer", "minimum": 0, "maximum": 10},
        },
        "required": ["subject", "kind", "importance"],
        "additionalProperties": False,
    },
    "minItems": 4,
    "maxItems": 4,
}
"""What the answers of the third kind follow: as flat as most of what programs ask for."""


@dataclass(frozen=True, slots=True)
class Forms:
    """How an answer is held to a grammar."""

    constrain: Callable[[str], Constraint]
    end_token_ids: tuple[int, ...]


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
    kind: Kind, passages: Sequence[Sequence[int]], tokens: int, end_token_ids: tuple[int, ...] = ()
) -> list[tuple[tuple[int, ...], SamplingParams]]:
    """A prompt and its parameters per passage. `end_token_ids`: what ends an answer that follows a
    schema, whatever its length."""
    if kind is Kind.SCHEMA:
        params = SamplingParams(
            max_tokens=tokens,
            temperature=0.0,
            stop_token_ids=end_token_ids,
            grammar=schema_grammar(RECORDS, strict=True),
        )
        return [(tuple(passage), params) for passage in passages]
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
    forms: Forms,
    options: SpeculationOptions,
    clock: Clock,
) -> SpeculationRow:
    """`passages`: one per request. Raises EngineFailure when guesses change a token."""
    ends = forms.end_token_ids
    requests = requests_of(kind, passages[: options.batch], options.tokens, ends)
    costs = CostModel()
    plain: list[_Round] = []
    guessing: list[_Round] = []
    for _ in range(options.rounds):
        plain.append(_run(local_engine(runner), requests, forms, costs, clock))
        guesser = _guesser(kind, costs, options)
        guessing.append(_run(local_engine(runner, guesser), requests, forms, costs, clock))
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


def _guesser(kind: Kind, costs: CostModel, options: SpeculationOptions) -> Guesser:
    if kind is Kind.SCHEMA:
        return ForcedGuesser(None)
    return PromptLookupGuesser(_step_costs(costs), guesses_max=options.guesses_max)


def _run(
    engine: Engine,
    requests: Sequence[tuple[tuple[int, ...], SamplingParams]],
    forms: Forms,
    costs: CostModel,
    clock: Clock,
) -> _Round:
    """Every request to its end; only steps that compute no prompt are timed."""
    outputs: dict[str, list[int]] = {}
    for number, (prompt, params) in enumerate(requests):
        outputs[str(number)] = []
        constraint = None if params.grammar is None else forms.constrain(params.grammar)
        engine.apply(Submit(str(number), prompt, params, constraint=constraint))
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
