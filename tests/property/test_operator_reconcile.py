"""From any spec to any other: one round of actions settles, whatever others did in between."""

import json
from typing import Any

from baton_operator.api import parse_service
from baton_operator.desired import desired_manifests
from baton_operator.diff import diff
from baton_operator.names import Role
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model_services import OWNER, RELEASE, FakeNamespace, model_service

words = st.text("abcdefgh", min_size=1, max_size=4)
templates = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(words, words, max_size=2),
        "annotations": st.dictionaries(words, words, max_size=2),
        "nodeSelector": st.dictionaries(words, words, max_size=2),
        "resources": st.fixed_dictionaries(
            {"limits": st.fixed_dictionaries({"cpu": st.sampled_from(["1000m", "0.5", "2", 3])})}
        ),
        "env": st.lists(
            st.fixed_dictionaries({"name": words, "value": words}),
            max_size=3,
            unique_by=lambda one: one["name"],
        ),
        "probes": st.fixed_dictionaries(
            {"startup": st.fixed_dictionaries({"failureThreshold": st.integers(1, 9)})}
        ),
    },
)
workers = st.one_of(
    st.fixed_dictionaries({"replicas": st.integers(1, 9), "template": templates}),
    st.fixed_dictionaries(
        {
            "scaling": st.sampled_from(
                [{"maxReplicas": 4}, {"mode": "external"}, {"minReplicas": 0, "maxReplicas": 2}]
            ),
            "template": templates,
        }
    ),
)
SOURCES = ("pvc://c/m.gguf", "oci://w:v1/m.gguf", "hf://o/r", "file:///m.gguf")
engines = st.sampled_from(
    [
        {},
        *({"speculation": "draft-model", "draftModel": {"source": source}} for source in SOURCES),
    ]
)
specs = st.fixed_dictionaries(
    {
        "decode": st.builds(lambda role, engine: {**role, "engine": engine}, workers, engines),
        "prefill": st.none() | workers,
        "router": st.fixed_dictionaries({"replicas": st.integers(1, 4), "template": templates}),
        "model": st.sampled_from(SOURCES).map(lambda source: {"name": "m", "source": source}),
        "tracing": st.sampled_from(
            [None, *({"endpoint": f"http://{host}:4318"} for host in ("otel", "10.0.0.7", "a.b.c"))]
        ),
    }
)
replicas = st.fixed_dictionaries(
    {role: st.none() | st.integers(0, 9) for role in (Role.PREFILL, Role.DECODE)}
)
STRANGER = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "stranger", "namespace": OWNER.namespace, "uid": "s"},
    "spec": {},
}


@settings(deadline=None, max_examples=50)  # each example renders dozens of manifests
@given(st.lists(st.tuples(specs, replicas, st.integers(0, 99)), min_size=1, max_size=4))
def test_actions_lead_to_what_is_desired_and_then_there_are_none(
    history: list[tuple[dict[str, Any], dict[Role, int | None], int]],
) -> None:
    namespace = FakeNamespace()
    namespace.put(STRANGER)
    for changes, counts, damage in history:
        spec = parse_service(model_service(**changes))
        desired = desired_manifests(OWNER, spec, counts, RELEASE)
        assert json.dumps(desired) == json.dumps(desired_manifests(OWNER, spec, counts, RELEASE))
        namespace.carry_out(diff(OWNER, desired, namespace.observed()))
        assert diff(OWNER, desired, namespace.observed()) == ()
        ours = {key for key in namespace.objects if key.name != "stranger"}
        assert {(key.kind, key.name) for key in ours} == {
            (one["kind"], one["metadata"]["name"])  # type: ignore[index,call-overload]
            for one in desired
        }
        lost = sorted(ours)[damage % len(ours)]
        del namespace.objects[lost]
        (action,) = diff(OWNER, desired, namespace.observed())
        assert action.key == lost
    assert any(key.name == "stranger" for key in namespace.objects)
