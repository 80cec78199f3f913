"""How a pod gets its weights: volumes, mounts, init containers and the references to use. Pure.

One answer per kind of source, for the model and for a draft model beside it. Knows no role and no
flags.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from baton_operator.manifest import Json, Manifest
from baton_operator.sources import (
    ClaimWeights,
    FetchedWeights,
    ImageWeights,
    PresentWeights,
    Weights,
)

CACHE_PATH = "/cache"  # pulled models and the records of their hashes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a model's files come to lie in a pod."""

    name: str  # of their volume, and of the container that brings them
    path: str


_MODEL: Final = _Place("baton-weights", "/weights")
_DRAFT: Final = _Place("baton-draft-weights", "/draft-weights")
"""Beside the model's and not below it, which is mounted for reading only."""

FETCH_CONTAINERS: Final = frozenset({_MODEL.name, _DRAFT.name})
"""The failure of one is a condition of the ModelService, with the last lines it printed."""

PULL_ENV: Final[Mapping[str, str]] = {"TMPDIR": CACHE_PATH, "PIP_NO_CACHE_DIR": "1"}
"""pip lays a wheel down in its temporary folder, and where the index lets it in a cache of its own,
before it is where we asked for it. The pod's /tmp has a limit that large ones would break."""

COPY_USER = 65532
"""Images of weights often say root, which restricted pods refuse; this is `nonroot` elsewhere."""

RESTRICTED_CONTAINER: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


@dataclass(frozen=True, slots=True)
class WeightsPlan:
    """What a pod needs so that its references can be resolved inside it."""

    reference: str
    draft_reference: str | None = None
    volumes: tuple[Json, ...] = ()
    mounts: tuple[Json, ...] = ()
    init_containers: tuple[Json, ...] = ()


def plan_weights(
    model: Weights, draft: Weights | None, *, image: str, pull_policy: str, mounts: Sequence[Json]
) -> WeightsPlan:
    """`image` is the role's own, `mounts` what its containers have in any case."""
    plan = _plan(_MODEL, model, image, pull_policy, mounts)
    if draft is None:
        return plan
    if isinstance(draft, ClaimWeights) and draft.claim == _claim_of(model):
        # One claim is one volume: the draft is found on the model's.
        return replace(plan, draft_reference=_reference(_MODEL, draft.path))
    beside = _plan(_DRAFT, draft, image, pull_policy, mounts)
    return WeightsPlan(
        plan.reference,
        beside.reference,
        volumes=(*plan.volumes, *beside.volumes),
        mounts=(*plan.mounts, *beside.mounts),
        init_containers=(*plan.init_containers, *beside.init_containers),
    )


def _claim_of(weights: Weights) -> str | None:
    return weights.claim if isinstance(weights, ClaimWeights) else None


def _plan(
    place: _Place, weights: Weights, image: str, pull_policy: str, mounts: Sequence[Json]
) -> WeightsPlan:
    """For one model."""
    match weights:
        case ClaimWeights(claim, path):
            claimed: Json = {"claimName": claim, "readOnly": True}
            return WeightsPlan(
                _reference(place, path),
                volumes=({"name": place.name, "persistentVolumeClaim": claimed},),
                mounts=(_weights_mount(place, read_only=True),),
            )
        case ImageWeights(weights_image, path):
            copy = _init_container(
                place,
                weights_image,
                pull_policy,
                # `cp -R` keeps a single file's name and a folder's shape alike.
                ["cp", "-R", f"/{path}", f"{place.path}/"],
                [_weights_mount(place, read_only=False)],
                {**RESTRICTED_CONTAINER, "runAsUser": COPY_USER},
                {},
            )
            return WeightsPlan(
                _reference(place, path.rpartition("/")[2]),
                volumes=({"name": place.name, "emptyDir": {}},),
                mounts=(_weights_mount(place, read_only=True),),
                init_containers=(copy,),
            )
        case FetchedWeights(reference):
            command = ["python", "-m", "baton.cli", "model", "pull", reference]
            pull = _init_container(
                place,
                image,
                pull_policy,
                [*command, "--cache-dir", CACHE_PATH],
                mounts,
                RESTRICTED_CONTAINER,
                PULL_ENV,
            )
            return WeightsPlan(reference, init_containers=(pull,))
        case PresentWeights(reference):
            return WeightsPlan(reference)
        case _:
            assert_never(weights)


def _init_container(
    place: _Place,
    image: str,
    pull_policy: str,
    command: Sequence[str],
    mounts: Sequence[Json],
    security: Manifest,
    environment: Mapping[str, str],
) -> Json:
    variables = {"HOME": "/tmp", **environment}
    return {
        "name": place.name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": list(command),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "securityContext": security,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": list(mounts),
    }


def _weights_mount(place: _Place, *, read_only: bool) -> Json:
    return {"name": place.name, "mountPath": place.path, "readOnly": read_only}


def _reference(place: _Place, path: str) -> str:
    return f"file://{place.path}/{path}"
