"""Every query of every board and alert, ready to be asked of a Prometheus.

Knows which of them only a cluster can answer, and which only a router that asks for API keys.
"""

from baton_loadtest.observability.alerts import alerts

from support.boards import panel_queries
from support.promql_reading import compared, uses

VARIABLES = {"namespace": ".*", "service": ".*", "__rate_interval": "15s", "__range": "1m"}

# Reported by the operator, or for pods that speak TLS.
CLUSTER_ONLY = ("baton_operator_", "controller_runtime_", "workqueue_", "leader_", "rest_client_")
CLUSTER_ONLY_NAMES = {"baton_tls_certificate_expiry_timestamp_seconds"}


def board_queries() -> dict[str, str]:
    """By board, panel and place."""
    return {
        f"{query.board}/{query.panel}/{number}": query.filled(VARIABLES)
        for number, query in enumerate(panel_queries())
    }


def alert_queries() -> dict[str, str]:
    """What alerts compare with thresholds: has a value in quiet times too."""
    return {
        f"{alert.name}/{number}": part
        for alert in alerts()
        for number, part in enumerate(compared(alert.expr))
    }


def needs_tenants(expr: str) -> bool:
    """Answered by routers that ask for API keys."""
    return any(use.metric.startswith("baton_router_tenant_") for use in uses(expr))


def needs_cluster(expr: str) -> bool:
    return any(
        use.metric.startswith(CLUSTER_ONLY) or use.metric in CLUSTER_ONLY_NAMES
        for use in uses(expr)
    )
