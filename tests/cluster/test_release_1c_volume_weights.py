"""Weights on a PersistentVolumeClaim, `pvc://CLAIM/PATH`, which is how a platform keeps its own;
for clients with keys out of a Secret."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.release import MODEL, NAMESPACE, Release, model_service
from openai import AuthenticationError, OpenAI
from support.smollm2 import smollm2_model

SERVICE = "from-volume"
VOLUME = "baton-test-weights"
KEYS = "baton-test-keys"
KEY = "sk-of-a-test"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def claim(release: Release, tmp_path: Path) -> Iterator[str]:
    """A claim that is bound to a folder of this machine, which both nodes see."""
    folder = tmp_path / "weights"
    folder.mkdir()
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
    release.cluster.kubectl("delete", "modelservice", SERVICE, namespace=NAMESPACE)
    release.cluster.kubectl("delete", "pvc", VOLUME, namespace=NAMESPACE)
    release.cluster.kubectl("delete", "pv", VOLUME)


@pytest.fixture
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


def test_a_model_is_served_from_a_volume_to_who_has_a_key(
    release: Release, claim: str, keys: str
) -> None:
    service = model_service(SERVICE)
    spec = service["spec"]
    spec["model"]["source"] = f"pvc://{claim}/smollm2.gguf"
    spec["router"]["replicas"] = spec["decode"]["replicas"] = 1
    spec["router"]["apiKeys"] = {"secretName": keys}
    del spec["prefill"]
    release.apply(service)
    release.await_answering(SERVICE)
    stranger = OpenAI(base_url=release.url(SERVICE), api_key="none", max_retries=0)
    with stranger, pytest.raises(AuthenticationError):
        stranger.models.list()
    with OpenAI(base_url=release.url(SERVICE), api_key=KEY, max_retries=0) as client:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
        )
    assert "Paris" in (answer.choices[0].message.content or "")
