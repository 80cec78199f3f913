"""Has kopf watch the cluster, on a thread of its own, and hands on which ModelService is concerned.

kopf ends every task of its event loop that it did not find there, so it gets a loop for itself. It
lists, watches, and resumes; when it gives up (a missing CRD, an API server that is away), it is
started again. What it tells is a hint: passes read for themselves. Knows no reconciling.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import kopf
from baton.common.logs import get_log

from baton_operator.handlers import WATCHED_CHILDREN, register
from baton_operator.kinds import Kind
from baton_operator.kube import ApiFailure, Kube
from baton_operator.manifest import int_at, text_at
from baton_operator.names import FIELD_MANAGER
from baton_operator.pace import backoff_s
from baton_operator.workqueue import Key

RECONNECT_S = 1.0
"""Between two tries to watch while the API server is away."""

CALL_BACKOFFS_S = (1.0, 2.0, 4.0)
"""Of kopf's own calls; after these the watch begins anew, which also ends in a list."""

CALL_TIMEOUT_S = 30.0  # a list of all pods of a large cluster takes seconds
LIST_CHUNK = 50
"""Objects of one answer. A Deployment takes some 60 kB as Python has it, so a few of them at once,
of nine kinds, and not the 500 that controllers in other languages ask for."""

IDLE_S = 0.2
"""kopf keeps an object, and a task for it, so long after its last event. At the start that is every
object there is, and nothing is remembered of any."""

STOP_TIMEOUT_S = 5.0

_log = get_log(__name__)

Notice = Callable[[Key], None]


class ClusterWatch:
    """Tells `notice`, on the loop that runs `run`, of every ModelService that may need a pass."""

    def __init__(
        self, kube: Kube, notice: Notice, luck: Callable[[], float], namespaces: Sequence[str]
    ) -> None:
        self._kube = kube
        self._notice = notice
        self._luck = luck
        self._namespaces = namespaces

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            if await self._is_served():
                began_s = asyncio.get_running_loop().time()
                await self._watch_once()
                lived_s = asyncio.get_running_loop().time() - began_s
                failures = 0 if lived_s > STOP_TIMEOUT_S else failures
            failures += 1
            await asyncio.sleep(backoff_s(failures, self._luck()))

    async def _is_served(self) -> bool:
        """Whether there are ModelServices at all: kopf looks for the CRD only once."""
        namespace = self._namespaces[0] if self._namespaces else None
        try:
            await self._kube.list(Kind.MODEL_SERVICE, namespace, {})
        except ApiFailure as failure:
            _log.warning("ModelServices cannot be listed", reason=failure.message)
            return False
        return True

    async def _watch_once(self) -> None:
        stop = threading.Event()
        notices = ThreadNotices(asyncio.get_running_loop(), self._notice)
        ended = asyncio.get_running_loop().create_future()
        thread = threading.Thread(
            target=_thread_main,
            args=(notices, self._namespaces, stop, asyncio.get_running_loop(), ended),
            name="watch",
            daemon=True,
        )
        thread.start()
        try:
            error = await asyncio.shield(ended)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait((ended,), timeout=STOP_TIMEOUT_S)
            raise
        _log.warning("watch ended", reason=repr(error))


class ThreadNotices:
    """Turns kopf's events into keys, and brings them over to the operator's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, notice: Notice) -> None:
        self._loop = loop
        self._notice = notice
        self._generations: dict[str, int | None] = {}  # by uid, of existing services

    def service_event(self, event: Any) -> None:
        """A change of a status alone is our own, and no news."""
        resource, kind = event["object"], event["type"]
        uid = text_at(resource, "metadata", "uid")
        generation = int_at(resource, "metadata", "generation")
        going = bool(text_at(resource, "metadata", "deletionTimestamp"))
        same = kind == "MODIFIED" and self._generations.get(uid) == generation and not going
        if kind == "DELETED":
            self._generations.pop(uid, None)
        else:
            self._generations[uid] = generation
        if not same:
            self._tell(resource, text_at(resource, "metadata", "name"))

    def child_event(self, event: Any) -> None:
        resource = event["object"]
        self._tell(resource, text_at(resource, "metadata", "labels", "app.kubernetes.io/instance"))

    def _tell(self, resource: Any, name: str) -> None:
        namespace = text_at(resource, "metadata", "namespace")
        if namespace and name:
            self._loop.call_soon_threadsafe(self._notice, (namespace, name))


def watch_settings() -> kopf.OperatorSettings:
    """kopf as a watcher: it posts nothing, scans nothing, and asks only for what is ours."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.error_backoffs = CALL_BACKOFFS_S
    settings.networking.request_timeout = CALL_TIMEOUT_S
    settings.watching.reconnect_backoff = RECONNECT_S
    settings.watching.chunk_size = LIST_CHUNK
    settings.queueing.idle_timeout = IDLE_S
    for kind in WATCHED_CHILDREN:
        group, _, _ = kind.resource.api_version.rpartition("/")
        settings.watching.label_selectors[group, kind.resource.plural] = (
            f"app.kubernetes.io/managed-by={FIELD_MANAGER}"
        )
    return settings


def _thread_main(
    notices: ThreadNotices,
    namespaces: Sequence[str],
    stop: threading.Event,
    loop: asyncio.AbstractEventLoop,
    ended: "asyncio.Future[BaseException | None]",
) -> None:
    logging.getLogger("kopf").setLevel(logging.CRITICAL)
    registry = kopf.OperatorRegistry()
    register(registry)
    error: BaseException | None = None
    try:
        asyncio.run(
            kopf.operator(
                registry=registry,
                settings=watch_settings(),
                memo=notices,
                standalone=True,
                clusterwide=not namespaces,
                namespaces=list(namespaces),
                stop_flag=stop,
            )
        )
    except BaseException as caught:  # whatever ended the thread is told to the loop that waits
        error = caught
    if not loop.is_closed():
        loop.call_soon_threadsafe(ended.set_result, error)
