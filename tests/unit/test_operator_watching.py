"""From what kopf tells to which ModelService needs a pass; and kopf is told to write nothing."""

import asyncio
from typing import Any

import kopf
import pytest
from baton_operator.handlers import WATCHED_CHILDREN, register
from baton_operator.kinds import Kind
from baton_operator.observing import router_hosts
from baton_operator.watching import ThreadNotices, watch_settings
from baton_operator.workqueue import Key
from kopf._cogs.structs.references import Resource

OURS = {"app.kubernetes.io/managed-by": "baton-operator", "app.kubernetes.io/instance": "smol"}


def event(kind: str | None, generation: int = 1, **metadata: Any) -> dict[str, Any]:
    given = {"name": "smol", "namespace": "models", "uid": "u", "generation": generation}
    return {"type": kind, "object": {"metadata": {**given, **metadata}}}


async def noticed(*events: dict[str, Any]) -> list[Key]:
    keys: list[Key] = []
    notices = ThreadNotices(asyncio.get_running_loop(), keys.append)
    for one in events:
        notices.service_event(one)
    await asyncio.sleep(0)
    return keys


SMOL: Key = ("models", "smol")
GOING = {"deletionTimestamp": "2026-11-22T20:00:00Z"}


@pytest.mark.parametrize(
    ("events", "passes"),
    [
        ([event(None)], 1),
        ([event("ADDED")], 1),
        ([event(None), event("MODIFIED")], 1),  # our own status
        ([event(None), event("MODIFIED", 2)], 2),
        ([event(None), event("MODIFIED", **GOING)], 2),
        ([event(None), event(None)], 2),  # a list after a gap: anything may have happened
        ([event(None), event("DELETED")], 2),
        ([event(None), event("DELETED"), event("ADDED"), event("MODIFIED")], 3),
        ([event("MODIFIED")], 1),  # not seen before
    ],
)
async def test_a_change_of_status_alone_is_no_news(
    events: list[dict[str, Any]], passes: int
) -> None:
    assert await noticed(*events) == [SMOL] * passes


async def test_a_child_names_its_service_and_a_stranger_nobody() -> None:
    keys: list[Key] = []
    notices = ThreadNotices(asyncio.get_running_loop(), keys.append)
    notices.child_event(event("MODIFIED", name="smol-decode-1", labels=OURS))
    notices.child_event(event("MODIFIED", name="stranger"))
    await asyncio.sleep(0)
    assert keys == [SMOL]


def test_kopf_is_asked_to_watch_and_to_write_nothing() -> None:
    registry = kopf.OperatorRegistry()
    register(registry)
    watched = {
        (handler.selector.group, handler.selector.any_name)
        for handler in registry._watching.get_all_handlers()
        if handler.selector is not None
    }
    kinds = (Kind.MODEL_SERVICE, *WATCHED_CHILDREN)
    assert watched == {
        (kind.resource.api_version.rpartition("/")[0], kind.resource.plural) for kind in kinds
    }
    # Handlers of these sorts keep their progress in annotations, or need a finalizer.
    assert not list(registry._changing.get_all_handlers())
    assert not list(registry._spawning.get_all_handlers())


def test_only_labelled_children_are_sent_and_no_secret_is_watched() -> None:
    selectors = watch_settings().watching.label_selectors
    for kind in (Kind.MODEL_SERVICE, *WATCHED_CHILDREN):
        group, _, version = kind.resource.api_version.rpartition("/")
        served = Resource(group, version, kind.resource.plural)
        labels = [] if kind is Kind.MODEL_SERVICE else ["managed-by=baton-operator"]
        assert [one.rpartition("/")[2] for one in selectors.collect(served)] == labels
    assert Kind.SECRET not in WATCHED_CHILDREN


def test_an_object_is_let_go_soon_after_its_last_event() -> None:
    settings = watch_settings()
    assert settings.queueing.idle_timeout < 1.0  # kopf's own five seconds hold the whole cluster
    assert (settings.watching.chunk_size or 0) in range(1, 101)


def router(host: str, *, ready: bool = True, **changes: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    metadata = {"name": host, **changes.pop("metadata", {})}
    status = {"podIP": host, "phase": "Running", "conditions": [condition], **changes}
    return {"metadata": metadata, "status": status}


@pytest.mark.parametrize(
    ("pods", "asked"),
    [
        ([], ()),
        ([router("10.0.0.2"), router("10.0.0.1")], ("10.0.0.1", "10.0.0.2")),
        ([router("10.0.0.1"), router("10.0.0.2", ready=False)], ("10.0.0.1",)),
        # None can serve, and they are the ones who know that somebody asks.
        ([router("10.0.0.1", ready=False)], ("10.0.0.1",)),
        ([router("10.0.0.1", metadata=GOING)], ()),
        ([router("10.0.0.1", phase="Pending")], ()),
        ([router("", ready=False)], ()),
    ],
)
def test_which_routers_are_asked(pods: list[dict[str, Any]], asked: tuple[str, ...]) -> None:
    assert router_hosts(pods) == asked
