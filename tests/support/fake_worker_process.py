"""A worker process as in production (flags, signals, ports, watchdog, drain), without a model.

`python -m support.fake_worker_process ROLE DIRECTORY FLAGS...`. While DIRECTORY holds a file
`load`, `step` or `loop`, the model does not load, no engine step ends, the event loop does not turn
(the last from SIGUSR1 on). A file `pace` makes each step take a tenth of a second. When it ends it
leaves the names of all modules it had loaded in a file `modules`.
"""

import os
import signal
import sys
import time
from pathlib import Path

from baton.common.lifecycle import leave_on_signals
from baton.decode.service import DecodeService
from baton.engine.batch import Runner, SliceResult, StepBatch
from baton.engine.costmodel import CostModel
from baton.model.config import Family, ModelConfig
from baton.model.fetch import LocalModel
from baton.prefill.service import PrefillService
from baton.worker import app
from baton.worker.plan import ModelPlan
from baton.worker.progress import StepProgress, WatchedRunner
from baton.worker.settings import WorkerSettings
from baton.worker.turns import EngineApi
from baton.worker.watch import Role
from baton.worker.watchdog import Limits

from support.fake_engine import LAYOUT, VOCAB_SIZE, FakeEngine

BLOCK_COUNT = 256
PACE_S = 0.1
POLL_S = 0.01
CONFIG = ModelConfig(
    family=Family.LLAMA,
    vocab_size=VOCAB_SIZE,
    hidden_size=2,
    intermediate_size=2,
    layers=LAYOUT.layers,
    heads=1,
    kv_heads=LAYOUT.kv_heads,
    head_size=LAYOUT.head_size,
    context_length=BLOCK_COUNT * LAYOUT.block_size,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
)
SOON = Limits(step_s=3.0, loop_s=3.0, exit_s=3.0)


def wait_gone(path: Path) -> None:
    while path.exists():
        time.sleep(POLL_S)


class HaltingRunner:
    def __init__(self, runner: Runner, directory: Path) -> None:
        self._runner, self._directory = runner, directory

    def run(self, batch: StepBatch) -> list[SliceResult]:
        wait_gone(self._directory / "step")
        if (self._directory / "pace").exists():
            time.sleep(PACE_S)
        return self._runner.run(batch)


class FakeModels:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def plan(self, settings: WorkerSettings) -> ModelPlan:
        wait_gone(self._directory / "load")
        model = LocalModel(Path("no file"), LAYOUT.model_revision)
        context_length = BLOCK_COUNT * LAYOUT.block_size
        return ModelPlan(model, CONFIG, (), LAYOUT, BLOCK_COUNT, context_length)

    def build(
        self, settings: WorkerSettings, plan: ModelPlan, costs: CostModel, progress: StepProgress
    ) -> EngineApi:
        return FakeEngine(
            block_count=BLOCK_COUNT,
            wrap=lambda runner: WatchedRunner(HaltingRunner(runner, self._directory), progress),
        )


def run() -> int:
    leave_on_signals()
    role, directory = Role(sys.argv[1]), Path(sys.argv[2])
    # Python runs signal handlers on the main thread, which is the event loop's.
    signal.signal(signal.SIGUSR1, lambda *_: wait_gone(directory / "loop"))
    service = PrefillService if role is Role.PREFILL else DecodeService
    code = app.main(
        role, service, sys.argv[3:], os.environ, models=FakeModels(directory), limits=SOON
    )
    (directory / "modules").write_text("\n".join(sys.modules))
    return code


if __name__ == "__main__":
    sys.exit(run())
