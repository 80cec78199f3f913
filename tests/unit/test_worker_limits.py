"""The scheduler's bounds: how long a step may get for the prompts in it."""

import pytest
from baton.engine.devices import DeviceChoice
from baton.engine.plan import SchedulerLimits
from baton.worker.limits import LONG_STEP_S, scheduler_limits
from baton.worker.settings import WorkerSettings

CPU, CUDA = DeviceChoice.CPU, DeviceChoice.CUDA


def limits(
    prefill_token_s: float,
    device: DeviceChoice = CPU,
    *,
    threads: int = 4,
    step_tokens_max: int | None = None,
) -> SchedulerLimits:
    settings = WorkerSettings(
        port=1,
        model="file:///m.gguf",
        model_name="m",
        threads=threads,
        step_tokens_max=step_tokens_max,
    )
    return scheduler_limits(
        settings, device, context_length_max=2_048, prefill_token_s=prefill_token_s
    )


@pytest.mark.parametrize(
    ("prefill_token_s", "backlog_budget", "prompts_together"),
    [
        (0.0001, 256, 4),  # fast: as much as there are threads for
        (0.0015, 256, 2),
        (0.003, 166, 1),
        (0.1, 5, 1),  # slow: the usual step, whatever it takes
        (0.0, 256, 4),  # nothing is known
    ],
)
def test_steps_grow_as_far_as_they_stay_short(
    prefill_token_s: float, backlog_budget: int, prompts_together: int
) -> None:
    found = limits(prefill_token_s)
    assert (found.backlog_budget, found.prompts_together) == (backlog_budget, prompts_together)
    assert found.token_budget == 128
    if found.prompts_together > 1:
        assert found.step_budget(0, 4_096) * prefill_token_s <= LONG_STEP_S


def test_one_thread_and_a_device_compute_prompts_one_behind_the_other() -> None:
    assert limits(0.0001, threads=1).prompts_together == 1
    assert limits(0.0001, CUDA).prompts_together == 1


def test_a_bound_that_was_asked_for_holds_for_every_step() -> None:
    found = limits(0.0001, step_tokens_max=64)
    assert {found.step_budget(decoding, 4_096) for decoding in (0, 1, 32)} == {64}
