"""The worker's cost model at work: fed by turns, shown as metrics and in Watch.

Knows where durations come from and where coefficients go; the fit is the engine's.
"""

from dataclasses import asdict

from baton.common.metrics import Metrics
from baton.engine.costmodel import CostModel, CostSnapshot
from baton.rpc.v1 import worker_pb2
from baton.worker.turns import Turn

METRICS_INTERVAL_TURNS = 16
"""Gauges are scraped every few seconds; setting six of them takes longer than learning a step."""


class CostMetrics:
    def __init__(self, costs: CostModel, metrics: Metrics) -> None:
        self._costs, self._metrics = costs, metrics
        self._turns = 0

    def observe(self, turn: Turn) -> None:
        """Learn from the step of a turn, if it ran one."""
        if turn.report.shape is None:
            return
        self._costs.learn(turn.report.shape, turn.duration_s)
        if self._turns % METRICS_INTERVAL_TURNS == 0:
            self._show()
        self._turns += 1

    def _show(self) -> None:
        if self._costs.error_ratio is not None:
            self._metrics.gauge("baton_cost_model_error_ratio", self._costs.error_ratio)
        for name, value in asdict(self._costs.coefficients).items():
            self._metrics.gauge("baton_cost_model_seconds", value, term=name.removesuffix("_s"))


def costs_to_wire(costs: CostSnapshot) -> worker_pb2.CostModel:
    transfers = [
        worker_pb2.TransferRate(peer=peer, bytes_per_s=rate)
        for peer, rate in costs.transfer_bytes_per_s
    ]
    known = costs.coefficients
    return worker_pb2.CostModel(
        fixed_s=known.fixed_s,
        prefill_token_s=known.prefill_token_s,
        prefill_kv_token_s=known.prefill_kv_token_s,
        decode_row_s=known.decode_row_s,
        kv_token_s=known.kv_token_s,
        error_ratio=costs.error_ratio,
        steps=costs.steps,
        transfers=transfers,
    )
