"""What the model and the settings decide together, and who reads a model for a worker.

Plain values and a protocol, without torch behind them: `assembly` is the one that loads.
"""

from dataclasses import dataclass
from typing import Protocol

from baton.engine.batch import KvStore, Launcher, Runner
from baton.engine.costmodel import CostModel
from baton.engine.devices import DeviceChoice
from baton.handoff.layout import KvLayout
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel
from baton.worker.progress import StepProgress
from baton.worker.settings import WorkerSettings
from baton.worker.turns import EngineApi


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Weights and cache, ready to compute."""

    runner: Runner
    kv: KvStore
    launcher: Launcher | None = None  # the runner, where steps need not be waited for
    draft: Runner | None = None  # of the model that guesses, over blocks of the same numbers


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Known before the engine is built."""

    model: LocalModel
    config: ModelConfig
    eos_token_ids: tuple[int, ...]
    layout: KvLayout
    block_count: int
    context_length_max: int  # tokens: what the model was trained for, or what the cache holds
    device: DeviceChoice = DeviceChoice.CPU
    # Set where the cache gets what the weights leave, so that they had to be loaded first.
    loaded: LoadedModel | None = None


class Models(Protocol):
    """Both block for seconds, and are called off the event loop."""

    def plan(self, settings: WorkerSettings) -> ModelPlan:
        """Raises ModelFileError and ConfigError."""
        ...

    def build(
        self, settings: WorkerSettings, plan: ModelPlan, costs: CostModel, progress: StepProgress
    ) -> EngineApi:
        """The engine, ready; every model step it runs is noted in `progress`. Raises
        ModelFileError."""
        ...
