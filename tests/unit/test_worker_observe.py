"""The engine's metrics say what its last turn said, whenever they are read."""

from baton.common.metrics import Metrics
from baton.engine.messages import EngineLoad, StepReport
from baton.engine.stepshape import decode_shape
from baton.worker.observe import EngineMetrics
from baton.worker.turns import Turn
from prometheus_client import CollectorRegistry
from support.fake_engine import LAYOUT


class Scraped:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry, model_name="m")
        self.engine = EngineMetrics(self._metrics, LAYOUT, block_count=8)

    def step(self, load: EngineLoad) -> None:
        report = StepReport((), (), (), load, decode_shape(2, 10))
        self.engine.observe(Turn(report, (), 0.01))

    def read(self, name: str, **labels: str) -> float | None:
        self._metrics.render()
        return self._registry.get_sample_value(name, {"model_name": "m", **labels})


def test_a_reader_sees_the_last_turn_and_every_step() -> None:
    scraped = Scraped()
    assert scraped.read("baton_engine_steps_total") == 0
    scraped.step(EngineLoad(1, 0, 2, 0, step=1, prefix_tokens_queried=30))
    scraped.step(EngineLoad(2, 3, 4, 0, step=2, prefix_tokens_queried=50, awaiting_kv=1))
    assert scraped.read("vllm:num_requests_running") == 2
    assert scraped.read("vllm:kv_cache_usage_perc") == 0.5
    assert scraped.read("vllm:num_requests_waiting_by_reason", reason="deferred") == 1
    assert scraped.read("baton_engine_steps_total") == 2
    assert scraped.read("baton_engine_step_seconds_count") == 2
    assert scraped.read("vllm:iteration_tokens_total_sum") == 4


def test_what_is_counted_is_counted_once_however_often_it_is_read() -> None:
    scraped = Scraped()
    scraped.step(EngineLoad(1, 0, 2, 0, step=1, prefix_tokens_queried=30, guesses_made=4))
    assert [scraped.read("vllm:prefix_cache_queries_total") for _ in range(2)] == [30, 30]
    scraped.step(EngineLoad(1, 0, 2, 0, step=2, prefix_tokens_queried=50, guesses_made=7))
    assert scraped.read("vllm:prefix_cache_queries_total") == 50
    assert scraped.read("vllm:spec_decode_num_draft_tokens_total") == 7
