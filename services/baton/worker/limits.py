"""The scheduler's bounds, from what a worker was told and how fast it was found to be. Pure."""

from baton.engine.costmodel import STEP_MIN_S
from baton.engine.devices import DeviceChoice
from baton.engine.plan import SchedulerLimits
from baton.worker.settings import WorkerSettings

LONG_STEP_S = 0.5
"""Of a step that is larger for the prompts in it: so long a pause in an answer is still read as
one, and a large model on few cores keeps its small steps."""


def scheduler_limits(
    settings: WorkerSettings,
    device: DeviceChoice,
    *,
    context_length_max: int,
    prefill_token_s: float,
) -> SchedulerLimits:
    """`prefill_token_s`: seconds of a step per prompt token in it, as calibrated."""
    token_budget = settings.step_tokens(device)
    tokens_max = int(LONG_STEP_S / max(prefill_token_s, STEP_MIN_S))
    return SchedulerLimits(
        token_budget=token_budget,
        sequences_max=settings.sequences_max,
        context_length_max=context_length_max,
        backlog_budget=min(settings.backlog_step_tokens(device), tokens_max),
        prompts_together=max(1, min(settings.prompts_together(device), tokens_max // token_budget)),
    )
