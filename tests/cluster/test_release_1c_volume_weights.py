"""Weights on a PersistentVolumeClaim, `pvc://CLAIM/PATH`, which is how a platform keeps its own;
for clients with keys out of a Secret; its pods, which fetch nothing, tell a collector their spans.

The test cluster enforces no NetworkPolicies: that those let spans out is tested in
tests/consistency.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator

import httpx
import pytest
from baton.router.decide import PROBE_TURNS
from cluster.harness.commands import until
from cluster.release import MODEL, NAMESPACE, ROLES, Release, model_service
from openai import AuthenticationError, OpenAI
from support.collector import Collector, collector
from support.smollm2 import smollm2_model

SERVICE = "from-volume"
VOLUME = "baton-test-weights"
KEYS = "baton-test-keys"
KEY = "sk-of-a-test"
GUESSES = "vllm:spec_decode_num_draft_tokens_total{"
SPANS_LIMIT_S = 60.0  # they leave every five seconds

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def claim(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A claim that is bound to a folder of this machine, which both nodes see."""
    folder = tmp_path_factory.mktemp("weights")
    weights = folder / "smollm2.gguf"
    shutil.copy(smollm2_model().path, weights)
    folder.chmod(0o755)  # the pod's user is nobody here
    weights.chmod(0o644)
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": VOLUME},
        "spec": {
            **access,
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": str(folder)},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }
    wanted = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": VOLUME, "namespace": NAMESPACE},
        "spec": {**access, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": VOLUME},
    }
    release.cluster.apply(volume, wanted)
    yield VOLUME
    release.cluster.kubectl("delete", "pvc", VOLUME, namespace=NAMESPACE)
    release.cluster.kubectl("delete", "pv", VOLUME)


@pytest.fixture(scope="module")
def keys(release: Release) -> Iterator[str]:
    """A Secret with one tenant, who has one key."""
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    tenants = {"tenants": [{"name": "tests", "keys_sha256": [hashed]}]}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEYS, "namespace": NAMESPACE},
        "stringData": {"keys.json": json.dumps(tenants)},
    }
    release.cluster.apply(secret)
    yield KEYS
    release.cluster.kubectl("delete", "secret", KEYS, namespace=NAMESPACE)


@pytest.fixture(scope="module")
def kept(release: Release) -> Iterator[Collector]:
    """A collector at the first node's address, where these tests are too."""
    nodes = release.cluster.nodes
    if not nodes:
        pytest.skip("pods of a cluster that is not ours do not reach this machine's collector")
    with collector(nodes[0].address) as listening:
        yield listening


@pytest.fixture(scope="module")
def served(release: Release, claim: str, keys: str, kept: Collector) -> Iterator[Release]:
    service = model_service(SERVICE)
    spec = service["spec"]
    spec["model"]["source"] = f"pvc://{claim}/smollm2.gguf"
    spec["router"]["replicas"] = spec["decode"]["replicas"] = 1
    spec["router"]["apiKeys"] = {"secretName": keys}
    spec["tracing"] = {"endpoint": kept.url}
    # The model for its own draft: nobody guesses better, and there is no smaller one.
    draft = {"speculation": "draft-model", "draftModel": {"source": spec["model"]["source"]}}
    spec["decode"]["engine"] = spec["decode"]["engine"] | draft
    release.apply(service)
    release.await_answering(SERVICE)
    yield release
    release.cluster.kubectl("delete", "modelservice", SERVICE, namespace=NAMESPACE)


@pytest.fixture
def client(served: Release) -> Iterator[OpenAI]:
    with OpenAI(base_url=served.url(SERVICE), api_key=KEY, max_retries=0) as opened:
        yield opened


def test_a_model_is_served_from_a_volume_to_who_has_a_key(served: Release, client: OpenAI) -> None:
    stranger = OpenAI(base_url=served.url(SERVICE), api_key="none", max_retries=0)
    with stranger, pytest.raises(AuthenticationError):
        stranger.models.list()
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
    )
    assert "Paris" in (answer.choices[0].message.content or "")


def test_decode_guesses_with_the_draft_that_the_spec_names(served: Release, client: OpenAI) -> None:
    prompt = "Count: one, two, three, four, five, six, seven,"
    client.completions.create(model=MODEL, prompt=prompt, max_tokens=48, temperature=0)
    [pod] = served.pods("decode", SERVICE)
    found = served.cluster.kubectl(
        *("get", "pod", pod, "-o", "jsonpath={.status.podIP}"), namespace=NAMESPACE
    )
    told = httpx.get(f"http://{found}:9090/metrics", timeout=10, trust_env=False).text
    guessed = [line for line in told.splitlines() if line.startswith(GUESSES)]
    assert sum(float(line.split()[-1]) for line in guessed) > 0, told


def test_one_trace_goes_through_all_roles(served: Release, client: OpenAI, kept: Collector) -> None:
    whole = {f"baton-{role}" for role in ROLES}
    # A prefill worker that was slow when it started may look slow until it is probed.
    for _ in range(PROBE_TURNS):
        prompt = f"{time.time_ns()} " + "Tell me about the history of the city of Paris. " * 40
        client.completions.create(model=MODEL, prompt=prompt, max_tokens=4, temperature=0)
    until(
        lambda: whole in kept.services_by_trace.values(),
        limit_s=SPANS_LIMIT_S,
        what="a trace has spans of all roles",
    )
    pods = {name for role in ROLES for name in served.pods(role, SERVICE)}
    assert {each["k8s.pod.name"] for each in kept.resources} <= pods
    assert {each["k8s.namespace.name"] for each in kept.resources} == {NAMESPACE}
