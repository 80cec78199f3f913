"""From settings to a guesser: none, prompt lookup, or a draft model beside the target.

Reaches for the draft's files like `assembly` does for the target's; who loads it is the assembly of
the device. Knows no scheduler.
"""

from baton.common.clock import SystemClock
from baton.common.errors import ConfigError
from baton.engine.batch import Runner
from baton.engine.calibration import calibrate
from baton.engine.costmodel import STEP_MIN_S, CostModel
from baton.engine.draft import DraftGuesser
from baton.engine.forced import ForcedGuesser
from baton.engine.speculation import Guesser, PromptLookupGuesser, Speculation, StepCosts
from baton.model.card import read_config
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel, resolve
from baton.model.progress import progress_for_stderr
from baton.worker.plan import ModelPlan
from baton.worker.settings import WorkerSettings


def find_draft(
    settings: WorkerSettings, target: ModelConfig
) -> tuple[LocalModel, ModelConfig] | None:
    """The draft model that the settings ask for. Raises ModelFileError, and ConfigError for an
    unfit one."""
    if settings.draft_model is None:
        return None
    model = resolve(
        settings.draft_model,
        cache_dir=settings.cache_dir.expanduser(),
        progress=progress_for_stderr(),
    )
    draft = read_config(model)
    if draft.vocab_size != target.vocab_size:
        raise ConfigError(
            [
                f"draft_model: its vocabulary has {draft.vocab_size} tokens, the model's"
                f" {target.vocab_size}; a draft must speak the same tokens"
            ]
        )
    return model, draft


def new_guesser(
    settings: WorkerSettings, plan: ModelPlan, costs: CostModel, draft: Runner | None
) -> Guesser:
    """What a grammar makes certain, and else what the settings ask for. `draft`: of the model that
    they name, if any."""
    return ForcedGuesser(_asked_for(settings, plan, costs, draft))


def _asked_for(
    settings: WorkerSettings, plan: ModelPlan, costs: CostModel, draft: Runner | None
) -> Guesser | None:
    def step_costs() -> StepCosts:
        return _step_costs(costs)

    match settings.speculation:
        case Speculation.NONE:
            return None
        case Speculation.PROMPT_LOOKUP:
            return PromptLookupGuesser(step_costs, guesses_max=settings.guesses_max)
        case Speculation.DRAFT_MODEL:
            assert draft is not None
            return DraftGuesser(
                draft,
                step_costs,
                guesses_max=settings.guesses_max,
                guess_share=_guess_share(draft, settings, plan, costs),
                step_tokens_max=settings.step_tokens(plan.device),
                eos_token_ids=plan.eos_token_ids,
            )


def _guess_share(
    draft: Runner, settings: WorkerSettings, plan: ModelPlan, costs: CostModel
) -> float:
    """What the draft's step of one row takes of the target's. Measured: a small model's step is
    mostly what any step costs, of which its weights tell nothing."""
    learned = CostModel()
    calibrate(
        draft,
        learned.learn,
        block_count=plan.block_count,
        block_size=settings.block_size,
        clock=SystemClock(),
    )
    return _step_costs(learned).step_s(1) / max(_step_costs(costs).step_s(1), STEP_MIN_S)


def _step_costs(costs: CostModel) -> StepCosts:
    known = costs.coefficients
    return StepCosts(known.fixed_s, known.decode_row_s)
