"""The router's signals for scaling: its traffic, and its workers as they last told. Pure."""

from baton.common.signals import RouterSignals, Traffic, WorkerSignals
from baton.router.fleet import WorkerView
from baton.router.picture import Picture, Report


def router_signals(
    picture: Picture, traffic: Traffic, *, model_name: str, incarnation: int, now_s: float
) -> RouterSignals:
    workers = tuple(_worker(view, report, now_s) for view, report in picture.reports())
    return RouterSignals(
        model_name=model_name, incarnation=incarnation, traffic=traffic, workers=workers
    )


def _worker(view: WorkerView, report: Report, now_s: float) -> WorkerSignals:
    load, costs = report.load, report.load.coefficients
    return WorkerSignals(
        address=view.address,
        role=view.role.value,
        incarnation=view.incarnation,
        state=view.state.value,
        age_s=max(0.0, now_s - report.heard_s),
        requests_running=load.running,
        requests_waiting=load.waiting,
        blocks_used=load.blocks_used,
        block_count=view.block_count,
        block_size=view.layout.block_size,
        prefill_tokens_waiting=load.prefill_tokens_waiting,
        fixed_s=costs.fixed_s,
        prefill_token_s=costs.prefill_token_s,
        prefill_kv_token_s=costs.prefill_kv_token_s,
        decode_row_s=costs.decode_row_s,
        kv_token_s=costs.kv_token_s,
    )
