"""The one module that talks to the API server: plain JSON in, plain JSON out, every call bounded.

Server-side apply as one field manager, lists by label, deletes by uid, status patches, leases,
Events. A call that may simply be made again is, a few times and with jitter; what remains is an
`ApiFailure`, and the work queue's business. Knows kinds and paths; knows no ModelService.
"""

import asyncio
import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import aiohttp
from baton.common.errors import BatonError, Unavailable
from kubernetes.aio import client, config

from baton_operator.kinds import Kind
from baton_operator.manifest import Json, Manifest, list_at, mapping_at, text_at
from baton_operator.names import FIELD_MANAGER

CALL_TIMEOUT_S = 10.0
"""An API server that takes longer is in trouble, and one call more would not help it."""

TRIES_MAX = 3
RETRY_S = 0.25
"""Before the second try, doubled before the third: bridges the restart of a connection, not of a
server; for that there is the queue's backoff."""

RETRY_AFTER_MAX_S = 5.0
PAGE_OBJECTS_MAX = 500  # as kubectl and controllers ask
PAGES_MAX = 200  # 100,000 objects; more services than one operator could reconcile anyway
CONNECTIONS_MAX = 16
MESSAGE_CHARS_MAX = 512

Count = Callable[[str, int], None]
"""Hears the method and the status of every try; 0: there was no answer."""

_AGAIN = frozenset({429, 500, 502, 503, 504})
_NOT_FOUND, _CONFLICT = 404, 409


class ApiFailure(BatonError):
    """The API server refused a call, or could not be reached (`status` 0)."""

    code = "api_failure"

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason

    @property
    def refused(self) -> bool:
        """Whether it is about what was asked, so that asking again is in vain."""
        return 400 <= self.status < 500 and self.status not in (401, 408, 409, 429)


class Kube(Protocol):
    """What the operator asks of the API server."""

    async def read(self, kind: Kind, namespace: str, name: str) -> Manifest | None: ...

    async def list(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str]
    ) -> "Sequence[Manifest]": ...

    async def apply(self, manifest: Manifest) -> Manifest: ...

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None: ...

    async def apply_status(self, manifest: Manifest) -> Manifest: ...

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> None: ...

    async def create(self, manifest: Manifest) -> Manifest: ...

    async def replace(self, manifest: Manifest) -> Manifest: ...


class ApiServer:
    """`Kube` over HTTP. Raises ApiFailure from every call that could not be done."""

    def __init__(
        self,
        api: client.ApiClient,
        *,
        jitter: random.Random,
        count: Count,
        call_timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self._api = api
        self._jitter = jitter
        self._count = count
        self._call_timeout_s = call_timeout_s

    async def aclose(self) -> None:
        await _untyped(self._api).close()

    async def read(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """None: there is no such object."""
        try:
            return await self._call("GET", kind.resource.path(namespace, name))
        except ApiFailure as failure:
            if failure.status == _NOT_FOUND:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str]
    ) -> Sequence[Manifest]:
        """All objects with these labels; items carry the kind that a list leaves out."""
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        query = {"limit": str(PAGE_OBJECTS_MAX), **({"labelSelector": selector} if labels else {})}
        found: list[Manifest] = []
        typed: Manifest = {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind}
        for _ in range(PAGES_MAX):
            page = await self._call("GET", kind.resource.path(namespace), query=query)
            found += [{**mapping_at(item), **typed} for item in list_at(page, "items")]
            query["continue"] = text_at(page, "metadata", "continue")
            if not query["continue"]:
                return found
        raise ApiFailure(0, "TooMany", f"more {kind.resource.plural} than can be listed")

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply, forced: the fields that are named are ours."""
        return await self._apply(_path(manifest, named=True), manifest)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """The same of the status subresource; what else is in `manifest` is not looked at."""
        return await self._apply(_path(manifest, named=True) + "/status", manifest)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object if it still is this one; that it is gone or another is as well."""
        body: Manifest = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            await self._call("DELETE", kind.resource.path(namespace, name), body=body)
        except ApiFailure as failure:
            if failure.status not in (_NOT_FOUND, _CONFLICT):
                raise

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> None:
        """Set annotations, or take those off that are None."""
        await self._call(
            "PATCH",
            kind.resource.path(namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"annotations": dict(annotations)}},
            content="application/merge-patch+json",
        )

    async def create(self, manifest: Manifest) -> Manifest:
        """Raises ApiFailure 409 where the name is taken."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("POST", _path(manifest, named=False), query=query, body=manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """Raises ApiFailure 409 where the object is no more at the given resourceVersion."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._call("PUT", _path(manifest, named=True), query=query, body=manifest)

    async def _apply(self, path: str, manifest: Manifest) -> Manifest:
        return await self._call(
            "PATCH",
            path,
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=manifest,
            content="application/apply-patch+yaml",
        )

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json = None,
        content: str = "application/json",
    ) -> Manifest:
        """One call with its retries. All calls may be repeated: a create that was done and not
        answered comes back as 409, which its callers take for what it is."""
        delay_s = RETRY_S
        for tries_left in reversed(range(TRIES_MAX)):
            try:
                return await self._try(method, path, query or {}, body, content)
            except _Again as again:
                if not tries_left:
                    raise again.failure from again.__cause__
                wait_s = max(delay_s, min(again.after_s, RETRY_AFTER_MAX_S))
                await asyncio.sleep(wait_s * self._jitter.uniform(0.5, 1.5))
                delay_s *= 2
        raise AssertionError("the last try returns or raises")

    async def _try(
        self, method: str, path: str, query: Mapping[str, str], body: Json, content: str
    ) -> Manifest:
        try:
            async with asyncio.timeout(self._call_timeout_s):
                request = await self._api.param_serialize(
                    method,
                    path,
                    query_params=list(query.items()),
                    header_params={"Accept": "application/json", "Content-Type": content},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._api.call_api(*request)
                raw = await _untyped(response).read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, 0)
            failure = ApiFailure(0, "Unreachable", f"the API server does not answer: {error!r}")
            raise _Again(failure, 0.0) from error
        self._count(method, response.status)
        answer = _json(raw)
        if 200 <= response.status < 300:
            return answer
        failure = ApiFailure(
            response.status,
            text_at(answer, "reason") or str(response.status),
            (text_at(answer, "message") or "no reason given")[:MESSAGE_CHARS_MAX],
        )
        if response.status in _AGAIN:
            raise _Again(failure, _seconds(response.headers.get("Retry-After")))
        raise failure


async def connect(*, jitter: random.Random, count: Count) -> ApiServer:
    """By the service account of the pod, else by KUBECONFIG. Raises Unavailable without either."""
    settings = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            _untyped(config).load_incluster_config(client_configuration=settings)
        else:
            await _untyped(config).load_kube_config(client_configuration=settings)
    except config.ConfigException as error:
        raise Unavailable(f"no way to the API server is configured: {error}") from error
    settings.connection_pool_maxsize = CONNECTIONS_MAX
    return ApiServer(client.ApiClient(settings), jitter=jitter, count=count)


class _Again(Exception):
    """The call may succeed when it is made again."""

    def __init__(self, failure: ApiFailure, after_s: float) -> None:
        super().__init__(failure.message)
        self.failure, self.after_s = failure, after_s


def _untyped(value: object) -> Any:
    """The client says that it is typed, and half of it is not."""
    return value


def _path(manifest: Manifest, *, named: bool) -> str:
    kind = _kind_of(manifest)
    namespace = text_at(manifest, "metadata", "namespace")
    name = text_at(manifest, "metadata", "name") if named else None
    return kind.resource.path(namespace, name)


def _kind_of(manifest: Manifest) -> Kind:
    return next(kind for kind in Kind if kind.resource.kind == text_at(manifest, "kind"))


def _json(raw: bytes) -> Manifest:
    try:
        found: Any = json.loads(raw)
    except ValueError:
        return {"message": raw[:MESSAGE_CHARS_MAX].decode(errors="replace")}
    return found if isinstance(found, Mapping) else {}


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() else 0.0
