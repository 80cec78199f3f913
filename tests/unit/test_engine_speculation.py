"""Guessing changes how many steps an answer takes, never the answer."""

import pytest
from baton.engine.batch import BatchSlice, SliceResult, StepBatch
from baton.engine.blocks import BlockPool
from baton.engine.draft import DraftGuesser, shared_out
from baton.engine.engine import Engine
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams, TokenSample
from baton.engine.plan import KvIdentity, SchedulerLimits
from baton.engine.scheduler import Scheduler
from baton.engine.speculation import PayingGuesser, PromptLookupGuesser, StepCosts
from support.fake_runner import EOS, FakeRunner, solo_output

BLOCK_SIZE = 4
CHEAP_ROWS = StepCosts(base_s=0.010, row_s=0.0001)


class WrongRunner(FakeRunner):
    """A draft that is always wrong."""

    def run(self, batch: StepBatch) -> list[SliceResult]:
        return [
            SliceResult(tuple(TokenSample((s.token_id + 1) % 90 + 2) for s in result.samples))
            for result in super().run(batch)
        ]


class Answers:
    """Runs requests to their end through an engine with a guesser."""

    def __init__(
        self,
        guesser: PayingGuesser,
        draft: FakeRunner | None = None,
        *,
        blocks: int = 40,
        runner: FakeRunner | None = None,
    ) -> None:
        self.runner, self.draft = runner or FakeRunner(blocks, BLOCK_SIZE), draft
        pool = BlockPool(blocks, BLOCK_SIZE)
        limits = SchedulerLimits(24, 4, min(100, blocks * BLOCK_SIZE))
        identity = KvIdentity("tiny", "float32")
        scheduler = Scheduler(limits, pool, identity, (EOS,), guesser)
        self.engine = Engine(scheduler, pool, self.runner, self.runner)

    def of(
        self, prompts: dict[str, tuple[int, ...]], params: SamplingParams
    ) -> dict[str, list[int]]:
        for name, prompt in prompts.items():
            self.runner.expect(name, prompt)
            if self.draft is not None:
                self.draft.expect(name, prompt)
            self.engine.apply(Submit(name, prompt, params))
        outputs: dict[str, list[int]] = {name: [] for name in prompts}
        while self.engine.has_work():
            for event in self.engine.step().events:
                assert isinstance(event, Tokens)
                outputs[event.request_id] += [token.token_id for token in event.tokens]
            self.engine.audit()
        return outputs


def draft_guesser(
    draft: FakeRunner, costs: StepCosts = CHEAP_ROWS, step_tokens_max: int = 100
) -> DraftGuesser:
    return DraftGuesser(
        draft,
        lambda: costs,
        guesses_max=4,
        guess_share=0.1,
        step_tokens_max=step_tokens_max,
        eos_token_ids=(EOS,),
    )


PROMPTS = {f"r{i}": tuple(2 + (i // 2 * 13 + j * 5) % 80 for j in range(9 + i)) for i in range(4)}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_that_is_right_saves_steps(temperature: float) -> None:
    params = SamplingParams(max_tokens=30, temperature=temperature, seed=4, ignore_eos=True)
    draft = FakeRunner(40, BLOCK_SIZE, shares_writes=True)
    answers = Answers(draft_guesser(draft), draft)
    outputs = answers.of(PROMPTS, params)
    assert outputs == {name: solo_output(prompt, params, 100) for name, prompt in PROMPTS.items()}
    assert answers.runner.steps < 15
    load = answers.engine.step().load
    assert load.guesses_accepted == load.guesses_made > 50


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_that_is_wrong_changes_nothing_and_is_soon_left_alone(temperature: float) -> None:
    params = SamplingParams(max_tokens=60, temperature=temperature, seed=4, ignore_eos=True)
    draft = WrongRunner(40, BLOCK_SIZE, shares_writes=True)
    answers = Answers(draft_guesser(draft), draft)
    outputs = answers.of({"a": PROMPTS["r0"]}, params)
    assert outputs == {"a": solo_output(PROMPTS["r0"], params, 100)}
    assert draft.steps < 30, "a guess that never pays must be given up"


def test_preempted_requests_are_read_anew_by_the_draft() -> None:
    params = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True)
    draft = FakeRunner(16, BLOCK_SIZE, shares_writes=True)
    answers = Answers(draft_guesser(draft), draft, blocks=16)
    outputs = answers.of(PROMPTS, params)
    assert answers.engine.step().load.preemptions > 0
    assert outputs == {name: solo_output(prompt, params, 64) for name, prompt in PROMPTS.items()}


def test_a_draft_reads_a_long_prompt_in_steps_of_its_own_limit() -> None:
    params = SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True)
    draft = FakeRunner(40, BLOCK_SIZE, shares_writes=True)
    answers = Answers(draft_guesser(draft, step_tokens_max=5), draft)
    prompts = {"long": tuple(range(2, 40)), "short": (2, 5, 9)}
    outputs = answers.of(prompts, params)
    assert outputs == {name: solo_output(prompt, params, 100) for name, prompt in prompts.items()}
    assert draft.largest_step_tokens == 5
    assert answers.engine.step().load.guesses_accepted > 30


@pytest.mark.parametrize(
    ("total", "wishes", "shares"),
    [
        (10, [3, 2], [3, 2]),
        (10, [50, 1, 30, 2], [0, 1, 7, 2]),  # whoever lacks least comes first
        (2, [1, 1, 1], [1, 1, 0]),
        (0, [4], [0]),
        (5, [], []),
    ],
)
def test_rows_of_a_draft_step_are_shared_out(
    total: int, wishes: list[int], shares: list[int]
) -> None:
    assert shared_out(total, wishes) == shares


class ForgetfulRunner(FakeRunner):
    """A draft whose first steps fail before they have written anything."""

    def run(self, batch: StepBatch) -> list[SliceResult]:
        if self.steps < 3:
            self.steps += 1
            return [SliceResult(error="no memory") for _ in batch.slices]
        return super().run(batch)


def test_what_a_draft_could_not_read_it_reads_again() -> None:
    params = SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True)
    draft = ForgetfulRunner(40, BLOCK_SIZE, shares_writes=True)
    answers = Answers(draft_guesser(draft), draft)
    outputs = answers.of({"a": PROMPTS["r0"]}, params)
    assert outputs == {"a": solo_output(PROMPTS["r0"], params, 100)}
    load = answers.engine.step().load
    assert load.guesses_accepted == load.guesses_made > 15


class EchoRunner(FakeRunner):
    """A model that repeats its prompt for ever: what it said eight tokens ago."""

    def _compute(self, piece: BatchSlice) -> SliceResult:
        super()._compute(piece)
        if piece.sample is None:
            return SliceResult()
        tokens = [*piece.sample.prompt, *piece.sample.output]
        samples = []
        guesses = list(piece.token_ids[len(piece.token_ids) - piece.guesses :])
        for guess in [*guesses, None]:
            samples.append(TokenSample(tokens[-8]))
            if samples[-1].token_id != guess:
                break
            tokens.append(samples[-1].token_id)
        return SliceResult(tuple(samples))


def test_prompt_lookup_saves_steps_on_text_that_repeats() -> None:
    guesser = PromptLookupGuesser(lambda: CHEAP_ROWS, guesses_max=5)
    answers = Answers(guesser, runner=EchoRunner(40, BLOCK_SIZE))
    prompt = tuple(range(10, 18)) * 2
    params = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True)
    outputs = answers.of({"a": prompt}, params)
    assert outputs["a"] == list(range(10, 18)) * 5
    assert answers.runner.steps < 20


def test_nothing_is_guessed_before_the_machine_is_measured() -> None:
    draft = FakeRunner(40, BLOCK_SIZE, shares_writes=True)
    answers = Answers(draft_guesser(draft, StepCosts(0.0, 0.0)), draft)
    params = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
    answers.of({"a": PROMPTS["r0"]}, params)
    assert draft.steps == 0
