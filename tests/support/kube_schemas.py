"""Kubernetes' own schemas of its objects, offline, per version: what the API server would refuse.

The schemas are those of the package kubernetes-validate, strict: a field that is not there is an
error. Knows no kinds but Kubernetes' own.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
FOREIGN_GROUPS = ("serving.baton.dev", "monitoring.coreos.com", "gateway.networking.k8s.io")


def is_foreign(found: Mapping[str, Any]) -> bool:
    """Whether the object's kind is not Kubernetes' own."""
    return str(found["apiVersion"]).partition("/")[0] in FOREIGN_GROUPS


def schema_problems(found: Mapping[str, Any], version: str) -> list[str]:
    """What is wrong with an object. Raises FileNotFoundError for a foreign kind."""
    # rbac.authorization.k8s.io/v1 stands in the package as rbac-v1.
    api = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", str(found["apiVersion"]))
    checks = _validator(version, f"{str(found['kind']).lower()}-{api}")
    return [f"{error.json_path}: {error.message}" for error in checks.iter_errors(found)]


@cache
def _validator(version: str, kind: str) -> jsonschema.Draft202012Validator:
    schema = schema_contents(f"{_folder(version)}/{kind}.json", version)
    return jsonschema.Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    definitions = schema_contents(f"{_folder(version)}/_definitions.json", version)
    resource = Resource.from_contents(definitions, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("_definitions.json", resource)
    return registry.crawl()


def _folder(version: str) -> str:
    return f"kubernetes-json-schema/v{version}.0-local-strict"
