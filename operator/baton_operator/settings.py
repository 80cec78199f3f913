"""What the operator can be told: frozen, from flags and environment by `baton.common.config`."""

from dataclasses import dataclass
from enum import Enum

from baton.common.config import setting


class LogLevel(Enum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Makes and scales the pods of ModelServices."""

    router_image: str = setting("image of router pods, where a ModelService names none")
    worker_image: str = setting("image of worker pods, where a ModelService names none")
    namespaces: tuple[str, ...] = setting(
        "namespaces whose ModelServices are served; none: of the whole cluster", default=()
    )
    metrics_host: str = setting("address of the metrics port", default="0.0.0.0")
    metrics_port: int = setting(
        "port of /metrics, /live and /ready", default=9090, at_least=1, at_most=65_535
    )
    lease_namespace: str | None = setting(
        "namespace of the Lease by which one of several operators leads; by default the pod's own",
        default=None,
    )
    lease_name: str = setting("name of that Lease", default="baton-operator")
    workers: int = setting(
        "ModelServices reconciled at once; four wait for the API server most of the time",
        default=4,
        at_least=1,
        at_most=64,
    )
    log_level: LogLevel = setting("what is logged at least", default=LogLevel.INFO)  # noqa: RUF009
