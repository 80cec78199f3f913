"""From settings to a guesser: none, prompt lookup, or a draft model loaded beside the target.

Reaches for the draft's files like `assembly` does for the target's. Knows no scheduler.
"""

from baton.common.errors import ConfigError
from baton.engine.costmodel import CostModel
from baton.engine.draft import DraftGuesser
from baton.engine.kernels.selection import KERNELS_FOLDER
from baton.engine.runner import build_runner
from baton.engine.speculation import Guesser, PromptLookupGuesser, Speculation, StepCosts
from baton.model.card import read_config
from baton.model.config import ModelConfig, weight_count
from baton.model.fetch import resolve
from baton.model.progress import progress_for_stderr
from baton.worker.settings import WorkerSettings


def new_guesser(
    settings: WorkerSettings,
    target: ModelConfig,
    costs: CostModel,
    *,
    block_count: int,
    eos_token_ids: tuple[int, ...],
) -> Guesser | None:
    """What the settings ask for. Raises ModelFileError and ConfigError for an unfit draft."""

    def step_costs() -> StepCosts:
        known = costs.coefficients
        return StepCosts(known.fixed_s, known.decode_row_s)

    match settings.speculation:
        case Speculation.NONE:
            return None
        case Speculation.PROMPT_LOOKUP:
            return PromptLookupGuesser(step_costs, guesses_max=settings.guesses_max)
        case Speculation.DRAFT_MODEL:
            pass
    model = resolve(
        settings.draft_model or "",
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
    runner = build_runner(
        model,
        draft,
        quantization=settings.quantization,
        block_count=block_count,
        block_size=settings.block_size,
        threads=settings.threads,
        kernels=settings.kernels,
        kernel_cache_dir=settings.cache_dir.expanduser() / KERNELS_FOLDER,
    )
    return DraftGuesser(
        runner,
        step_costs,
        guesses_max=settings.guesses_max,
        guess_share=weight_count(draft) / weight_count(target),
        eos_token_ids=eos_token_ids,
    )
