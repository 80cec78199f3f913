"""What kopf is asked to watch: decorators, and nothing behind them but a word to `Notices`.

Only `on.event`: kopf then writes nothing into any object, neither annotations nor finalizers.
"""

from typing import Any, Protocol

import kopf

from baton_operator.kinds import CHILD_KINDS, Kind

WATCHED_CHILDREN = (*CHILD_KINDS, Kind.POD)
"""Not Secrets: the operator reads those it made or a spec names, by name, and may not list any."""


class Notices(Protocol):
    """Hears of what happens in the cluster, on kopf's thread."""

    def service_event(self, event: Any) -> None: ...

    def child_event(self, event: Any) -> None: ...


def register(registry: kopf.OperatorRegistry) -> None:
    """Handlers of everything that a ModelService depends on."""

    @kopf.on.login(registry=registry)
    async def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(*_selector(Kind.MODEL_SERVICE), id="service", registry=registry)
    async def service_changed(event: Any, memo: Any, **_: Any) -> None:
        memo.service_event(event)

    async def child_changed(event: Any, memo: Any, **_: Any) -> None:
        memo.child_event(event)

    for kind in WATCHED_CHILDREN:
        kopf.on.event(*_selector(kind), id=kind.name.lower(), registry=registry)(child_changed)


def _selector(kind: Kind) -> tuple[str, str, str]:
    """kopf's: group, version, plural."""
    group, _, version = kind.resource.api_version.rpartition("/")
    return group, version, kind.resource.plural
