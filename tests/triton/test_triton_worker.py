"""A worker's assembly on a device: from settings and files to an engine that says what the CPU
worker says. The interpreter stands in for the compiler, the fake device for the GPU."""

from dataclasses import replace
from pathlib import Path

import pytest
from baton.common.errors import ConfigError
from baton.engine.costmodel import CostModel
from baton.engine.devices import DeviceChoice
from baton.engine.messages import Submit, Tokens
from baton.engine.params import SamplingParams
from baton.engine.speculation import Speculation
from baton.model.grammar_text import choice_grammar
from baton.model.tokenizer import load_tokenizer
from baton.worker.assembly import build_engine, plan_model
from baton.worker.constraints import Constraints
from baton.worker.device_assembly import plan_on
from baton.worker.plan import ModelPlan
from baton.worker.progress import StepProgress
from baton.worker.settings import WorkerSettings
from support.fake_device import FakeDevice
from support.random_json import text_of
from support.tiny_models import HfConfig, tiny_model

SHAPE: HfConfig = {"num_hidden_layers": 1, "max_position_embeddings": 128}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> WorkerSettings:
    model = tiny_model("llama3", tmp_path_factory.mktemp("model"), shape=SHAPE)
    return WorkerSettings(
        port=1,
        model=f"file://{model.path}",
        model_name="tiny",
        device=DeviceChoice.CPU,
        step_tokens_max=8,
        sequences_max=2,
    )


def answer(
    settings: WorkerSettings, plan: ModelPlan, *, tokens_max: int = 3, grammar: str | None = None
) -> list[int]:
    engine = build_engine(settings, plan, CostModel(), StepProgress())
    params = SamplingParams(tokens_max, temperature=0.0, grammar=grammar)
    constraint = None
    if grammar is not None:
        constraint = Constraints(plan.model, vocab_size=plan.config.vocab_size).of(grammar)
    engine.apply(Submit("r", tuple(range(5, 20)), params, constraint=constraint))
    tokens: list[int] = []
    while engine.has_work():
        for event in engine.step().events:
            assert isinstance(event, Tokens)
            tokens += [token.token_id for token in event.tokens]
        engine.audit()
    return tokens


def test_a_device_worker_answers_as_a_cpu_worker(settings: WorkerSettings) -> None:
    cpu = plan_model(settings)
    plan = plan_on(FakeDevice(), settings, cpu.model, cpu.config, cpu.layout)
    # what was free, and not what a CPU worker would have been given
    assert plan.block_count * plan.layout.block_bytes == pytest.approx(8 * 2**20, rel=0.01)
    assert plan.context_length_max == 128
    assert answer(settings, plan) == answer(settings, cpu)


def test_a_device_worker_holds_an_answer_to_its_grammar(settings: WorkerSettings) -> None:
    """On the device too the host chooses, and no step is launched before it has."""
    cpu = plan_model(settings)
    plan = plan_on(FakeDevice(), settings, cpu.model, cpu.config, cpu.layout)
    grammar = choice_grammar(["the lazy dog", "the quick fox", "a question"])
    said = answer(settings, plan, tokens_max=20, grammar=grammar)
    assert said == answer(settings, cpu, tokens_max=20, grammar=grammar)
    text = text_of(load_tokenizer(plan.model), said[:-1])
    assert text in ("the lazy dog", "the quick fox", "a question")


def with_draft(settings: WorkerSettings, directory: Path, **shape: object) -> WorkerSettings:
    draft = tiny_model("qwen3", directory, shape={"num_hidden_layers": 1} | shape)
    return replace(
        settings, speculation=Speculation.DRAFT_MODEL, draft_model=f"file://{draft.path}"
    )


def test_a_draft_model_shares_the_device_and_changes_no_answer(
    settings: WorkerSettings, tmp_path: Path
) -> None:
    drafted = with_draft(settings, tmp_path)
    cpu = plan_model(settings)
    plan = plan_on(FakeDevice(), drafted, cpu.model, cpu.config, cpu.layout)
    # of each block both hold their KV: heads of 24 values in the draft, of 16 in the model
    block_bytes = plan.layout.block_bytes * (16 + 24) // 16
    assert plan.block_count * block_bytes == pytest.approx(8 * 2**20, rel=0.01)
    assert answer(drafted, plan) == answer(settings, cpu)


def test_a_draft_of_other_tokens_is_refused(settings: WorkerSettings, tmp_path: Path) -> None:
    cpu = plan_model(settings)
    drafted = with_draft(settings, tmp_path)
    other = replace(cpu.config, vocab_size=cpu.config.vocab_size + 1)
    with pytest.raises(ConfigError, match="300 tokens, the model's 301"):
        plan_on(FakeDevice(), drafted, cpu.model, other, cpu.layout)
