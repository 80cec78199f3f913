"""`decode.engine.draftModel`: what decode pods get of it, judged by the worker's own reading of its
flags, where they may go for it, and that no other role has any of it."""

import json
from typing import Any

import pytest
from baton.common.config import read_settings
from baton.engine.speculation import Speculation
from baton.worker.settings import WorkerSettings
from baton_operator.desired import desired_manifests
from baton_operator.names import Role
from baton_operator.podapi import OWN_PREFIX
from baton_operator.weights import FETCH_CONTAINERS
from support.model_services import OWNER, RELEASE, spec_of
from support.network_reach import Endpoint, may_reach

MODEL = "pvc://models/smol/m.gguf"
SOURCES = (
    "pvc://drafts/d.gguf",
    "pvc://models/d.gguf",
    "oci://reg.example/drafts:v1/smol/d.gguf",
    "hf://org/tiny",
    "pip://tiny==1#d.gguf",
    "file:///mine/d.gguf",
)
Object = dict[str, Any]


def objects(draft: str | None, model: str = MODEL, **decode: Any) -> list[Object]:
    if draft is not None:
        engine = {"speculation": "draft-model", "draftModel": {"source": draft}}
        decode = {"engine": engine, **decode}
    spec = spec_of(model={"name": "m", "source": model}, decode=decode)
    made: list[Object] = json.loads(
        json.dumps(desired_manifests(OWNER, spec, {Role.PREFILL: 1}, RELEASE))
    )
    return made


def pod_of(draft: str | None, model: str = MODEL, **decode: Any) -> Object:
    (found,) = [
        one
        for one in objects(draft, model, **decode)
        if (one["kind"], one["metadata"]["name"]) == ("Deployment", "smol-decode")
    ]
    pod: Object = found["spec"]["template"]["spec"]
    return pod


def told(pod: Object, environ: dict[str, str] | None = None) -> WorkerSettings:
    (container,) = pod["containers"]
    return read_settings(WorkerSettings, container["args"], environ or {}, program="t")


def mounted_at(container: Object, name: str) -> list[tuple[str, bool]]:
    return [
        (mount["mountPath"], mount.get("readOnly", False))
        for mount in container["volumeMounts"]
        if mount["name"] == name
    ]


@pytest.mark.parametrize("draft", SOURCES)
@pytest.mark.parametrize("model", [MODEL, "oci://w:v1/m.gguf", "hf://org/repo"])
def test_decode_guesses_with_the_draft_and_computes_the_model(draft: str, model: str) -> None:
    pod = pod_of(draft, model)
    settings = told(pod)
    assert settings.speculation is Speculation.DRAFT_MODEL
    assert settings.draft_model is not None
    assert settings.model == told(pod_of(None, model)).model
    assert settings.model != settings.draft_model
    names = [volume["name"] for volume in pod["volumes"]]
    assert len(names) == len(set(names))
    assert all(name.startswith(OWN_PREFIX) for name in names)  # users can have none of these
    (container,) = pod["containers"]
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("draft", SOURCES)
def test_nothing_but_decodes_pods_and_their_ways_out_knows_of_it(draft: str) -> None:
    changed = {
        (one["kind"], one["metadata"]["name"])
        for one, before in zip(objects(draft), objects(None), strict=True)
        if one != before
    }
    policies = {("NetworkPolicy", "smol-decode")} if draft.startswith(("hf", "pip")) else set()
    assert changed == {("Deployment", "smol-decode"), *policies}


def test_a_draft_on_another_claim_is_mounted_for_reading() -> None:
    pod = pod_of("pvc://drafts/tiny/d.gguf")
    assert "initContainers" not in pod
    claims = {
        volume["persistentVolumeClaim"]["claimName"]: volume
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims.keys() == {"models", "drafts"}
    assert claims["drafts"]["persistentVolumeClaim"]["readOnly"] is True
    (container,) = pod["containers"]
    assert mounted_at(container, claims["drafts"]["name"]) == [("/draft-weights", True)]
    assert told(pod).draft_model == "file:///draft-weights/tiny/d.gguf"


def test_a_claim_that_has_both_is_one_volume() -> None:
    pod, alone = pod_of("pvc://models/tiny/d.gguf"), pod_of(None)
    assert pod["volumes"] == alone["volumes"]
    assert pod["containers"][0]["volumeMounts"] == alone["containers"][0]["volumeMounts"]
    assert told(pod).draft_model == "file:///weights/tiny/d.gguf"


def test_an_image_that_has_both_fills_a_volume_for_each() -> None:
    """Both may be called alike in their folders."""
    pod = pod_of("oci://w:v1/tiny/m.gguf", "oci://w:v1/large/m.gguf")
    commands = [one["command"] for one in pod["initContainers"]]
    assert commands == [
        ["cp", "-R", "/large/m.gguf", "/weights/"],
        ["cp", "-R", "/tiny/m.gguf", "/draft-weights/"],
    ]
    (container,) = pod["containers"]
    for copy, path in zip(pod["initContainers"], ("/weights", "/draft-weights"), strict=True):
        (volume,) = copy["volumeMounts"]
        assert (volume["mountPath"], volume["readOnly"]) == (path, False)
        assert mounted_at(container, volume["name"]) == [(path, True)]
    assert told(pod).draft_model == "file:///draft-weights/m.gguf"


@pytest.mark.parametrize("draft", ["hf://org/tiny@main", "pip://tiny==1#d.gguf"])
def test_a_draft_from_the_network_is_pulled_after_the_model(draft: str) -> None:
    pod = pod_of(draft, "hf://org/repo")
    settings = told(pod)
    assert settings.draft_model == draft
    pulled = [one["command"][-4:] for one in pod["initContainers"]]
    where = ["--cache-dir", str(settings.cache_dir)]
    assert pulled == [["pull", "hf://org/repo", *where], ["pull", draft, *where]]
    (cache,) = [one for one in pod["volumes"] if one["name"] == "baton-cache"]
    assert cache["emptyDir"] == {}  # as large as the node's disk allows: it holds both
    for pull in pod["initContainers"]:
        assert pull["image"] == RELEASE.worker
        assert mounted_at(pull, cache["name"]) == [(str(settings.cache_dir), False)]


def test_a_draft_of_the_pods_own_is_what_the_template_mounts() -> None:
    template = {
        "volumes": [{"name": "mine", "hostPath": {"path": "/mine"}}],
        "volumeMounts": [{"name": "mine", "mountPath": "/mine"}],
    }
    pod = pod_of("file:///mine/d.gguf", template=template)
    assert "initContainers" not in pod
    assert told(pod).draft_model == "file:///mine/d.gguf"
    assert mounted_at(pod["containers"][0], "mine") == [("/mine", False)]


@pytest.mark.parametrize("draft", SOURCES)
def test_whoever_brings_weights_is_known_by_its_name(draft: str) -> None:
    names = [one["name"] for one in pod_of(draft, "oci://w:v1/m.gguf").get("initContainers", [])]
    assert len(names) == len(set(names))
    assert set(names) <= FETCH_CONTAINERS


def test_the_spec_overrules_an_environment_that_names_another_draft() -> None:
    environ = {"BATON_SPECULATION": "prompt-lookup", "BATON_DRAFT_MODEL": "file:///old.gguf"}
    settings = told(pod_of("hf://org/tiny"), environ)
    assert settings.speculation is Speculation.DRAFT_MODEL
    assert settings.draft_model == "hf://org/tiny"


def reaches_outside(role: Role, draft: str, model: str = MODEL) -> bool:
    policies = [one for one in objects(draft, model) if one["kind"] == "NetworkPolicy"]
    pod = Endpoint(OWNER.namespace, OWNER.labels(role))
    return may_reach(policies, pod, Endpoint(), 8443)


@pytest.mark.parametrize("draft", SOURCES)
def test_decode_goes_out_for_a_draft_that_it_fetches_and_prefill_stays(draft: str) -> None:
    assert reaches_outside(Role.DECODE, draft) is draft.startswith(("hf://", "pip://"))
    assert not reaches_outside(Role.PREFILL, draft)
    assert not reaches_outside(Role.ROUTER, draft)


def test_a_model_that_is_fetched_opens_the_way_whatever_the_draft() -> None:
    assert all(reaches_outside(role, "pvc://drafts/d.gguf", "hf://org/repo") for role in Role)
