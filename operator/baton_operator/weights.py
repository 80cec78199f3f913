"""How a pod gets its weights: volumes, mounts, an init container and the `--model` to use. Pure.

One answer per kind of source. Knows no role and no flags beside the model reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from baton_operator.manifest import Json, Manifest
from baton_operator.sources import (
    ClaimWeights,
    FetchedWeights,
    ImageWeights,
    PresentWeights,
    Weights,
)

CACHE_PATH = "/cache"  # pulled models and the records of their hashes
WEIGHTS_PATH = "/weights"
FETCH_CONTAINER = "baton-weights"
"""Its failure is a condition of the ModelService, with the last lines it printed."""

COPY_USER = 65532
"""Images of weights often say root, which restricted pods refuse; this is `nonroot` elsewhere."""

RESTRICTED_CONTAINER: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


@dataclass(frozen=True, slots=True)
class WeightsPlan:
    """What a pod needs so that `reference` can be resolved inside it."""

    reference: str
    volumes: tuple[Json, ...] = ()
    mounts: tuple[Json, ...] = ()
    init_containers: tuple[Json, ...] = ()
    from_network: bool = False


def plan_weights(
    weights: Weights, *, image: str, pull_policy: str, mounts: Sequence[Json]
) -> WeightsPlan:
    """`image` is the role's own, `mounts` what its containers have in any case."""
    match weights:
        case ClaimWeights(claim, path):
            claimed: Json = {"claimName": claim, "readOnly": True}
            return WeightsPlan(
                _reference(path),
                volumes=({"name": "baton-weights", "persistentVolumeClaim": claimed},),
                mounts=(_weights_mount(read_only=True),),
            )
        case ImageWeights(weights_image, path):
            copy = _init_container(
                weights_image,
                pull_policy,
                # `cp -R` keeps a single file's name and a folder's shape alike.
                ["cp", "-R", f"/{path}", f"{WEIGHTS_PATH}/"],
                [_weights_mount(read_only=False)],
                {**RESTRICTED_CONTAINER, "runAsUser": COPY_USER},
            )
            return WeightsPlan(
                _reference(path.rpartition("/")[2]),
                volumes=({"name": "baton-weights", "emptyDir": {}},),
                mounts=(_weights_mount(read_only=True),),
                init_containers=(copy,),
            )
        case FetchedWeights(reference):
            command = ["python", "-m", "baton.cli", "model", "pull", reference]
            pull = _init_container(
                image,
                pull_policy,
                [*command, "--cache-dir", CACHE_PATH],
                mounts,
                RESTRICTED_CONTAINER,
            )
            return WeightsPlan(reference, init_containers=(pull,), from_network=True)
        case PresentWeights(reference):
            return WeightsPlan(reference)
        case _:
            assert_never(weights)


def _init_container(
    image: str,
    pull_policy: str,
    command: Sequence[str],
    mounts: Sequence[Json],
    security: Manifest,
) -> Json:
    return {
        "name": FETCH_CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": list(command),
        "env": [{"name": "HOME", "value": "/tmp"}],
        "securityContext": security,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": list(mounts),
    }


def _weights_mount(*, read_only: bool) -> Json:
    return {"name": "baton-weights", "mountPath": WEIGHTS_PATH, "readOnly": read_only}


def _reference(path: str) -> str:
    return f"file://{WEIGHTS_PATH}/{path}"
