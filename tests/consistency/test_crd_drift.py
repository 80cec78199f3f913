"""The CRD in the chart is what `make crds` makes of the typed API, and follows Kubernetes' rules.

What the API server checks when a CRD is created, as far as it can be checked without one: a
structural schema, bounds that its CEL budget can be computed from, and rules over fields there are.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from baton_operator.crds import CHART_FILE, crd_yaml

ROOT = Path(__file__).resolve().parents[2]
CEL_WORDS = {"self", "oldSelf", "has", "size", "matches", "all", "startsWith"}
OPAQUE = "x-kubernetes-preserve-unknown-fields"


def committed() -> Any:
    return yaml.safe_load((ROOT / CHART_FILE).read_text(encoding="utf-8"))


def version() -> Any:
    (only,) = committed()["spec"]["versions"]
    return only


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for keyword, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if keyword in schema:
            yield from nodes(schema[keyword], path + sign)


SCHEMA = version()["schema"]["openAPIV3Schema"]
OURS = [
    (path, schema)
    for path, schema in nodes(SCHEMA)
    if path.startswith((".spec", ".status"))  # apiVersion, kind and metadata are Kubernetes' own
]


def test_the_committed_crd_is_up_to_date() -> None:
    assert (ROOT / CHART_FILE).read_text(encoding="utf-8") == crd_yaml()


def test_every_schema_has_a_type() -> None:
    untyped = [
        path
        for path, schema in OURS
        if "type" not in schema and not schema.get("x-kubernetes-int-or-string")
    ]
    assert untyped == []


def test_everything_that_can_grow_is_bounded() -> None:
    bounds = {"array": "maxItems", "string": "maxLength"}
    unbounded = [
        path
        for path, schema in OURS
        if (bound := bounds.get(schema.get("type")))
        and bound not in schema
        and "enum" not in schema
    ]
    unbounded += [
        path
        for path, schema in OURS
        if "additionalProperties" in schema and "maxProperties" not in schema
    ]
    assert unbounded == []


def test_every_field_of_ours_says_what_it_means() -> None:
    silent = [
        f"{path}.{name}"
        for path, schema in OURS
        if OPAQUE not in schema
        for name, inner in schema.get("properties", {}).items()
        if not inner.get("description")
    ]
    assert silent == []


def test_only_kubernetes_own_types_are_opaque() -> None:
    opaque = {path.rsplit(".", 1)[-1] for path, schema in OURS if schema.get(OPAQUE)}
    assert opaque == {"affinity", "valueFrom", "volumes[]"}


def test_required_fields_exist_and_have_no_default() -> None:
    for path, schema in OURS:
        for name in schema.get("required", []):
            assert "default" not in schema["properties"][name], f"{path}.{name}"


def test_maps_in_lists_are_told_apart_by_required_fields() -> None:
    keyed = 0
    for path, schema in OURS:
        for key in schema.get("x-kubernetes-list-map-keys", []):
            keyed += 1
            assert key in schema["items"]["required"], path
    assert keyed >= 5
    conditions = SCHEMA["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def field_chains(rule: str) -> Iterator[list[str]]:
    """The fields that a CEL rule looks into: `self.a.b` is [a, b]. Texts are no fields."""
    for chain in re.findall(r"\bself((?:\.\w+)+)", re.sub(r"r?'[^']*'", "''", rule)):
        yield [name for name in chain.split(".")[1:] if name not in CEL_WORDS]


def missing_fields(rule: str, schema: Any) -> list[str]:
    missing = []
    for chain in field_chains(rule):
        inner = schema
        for name in chain:
            inner = inner.get("properties", {}).get(name)
            if inner is None:
                missing.append(".".join(chain))
                break
    return missing


def test_rules_speak_of_fields_there_are_and_say_what_to_write() -> None:
    rules = [
        (path, schema, rule)
        for path, schema in nodes(SCHEMA)
        for rule in schema.get("x-kubernetes-validations", [])
    ]
    assert len(rules) > 15
    for path, schema, rule in rules:
        given = schema
        if not path:  # the API server adds these to every object
            names = {"name": {"type": "string"}}
            given = {"properties": {**schema["properties"], "metadata": {"properties": names}}}
        assert missing_fields(rule["rule"], given) == [], f"{path}: {rule['rule']}"
        assert len(rule["message"]) > 20
        assert rule["rule"].count("(") == rule["rule"].count(")")


def test_a_rule_about_no_field_is_noticed() -> None:
    schema = {"properties": {"a": {"properties": {"b": {"type": "string"}}}}}
    assert missing_fields("has(self.a.b) && self.a.b.matches(r'^self.x$')", schema) == []
    assert missing_fields("has(self.a.c) || self.d == 1", schema) == ["a.c", "d"]


def test_patterns_are_anchored_and_of_re2s_kind() -> None:
    patterns = {
        pattern
        for _, schema in nodes(SCHEMA)
        for rule in schema.get("x-kubernetes-validations", [])
        for pattern in re.findall(r"matches\(r?'([^']*)'\)", rule["rule"])
    }
    assert len(patterns) == 10
    for pattern in patterns:
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        assert not re.search(r"\(\?[=!<]|\\[1-9]", pattern), "RE2 has no lookaround, no references"
        re.compile(pattern)


def test_what_kubectl_shows_exists() -> None:
    names = committed()["spec"]["names"]
    assert (names["shortNames"], names["categories"]) == (["msvc"], ["baton"])
    assert version()["subresources"] == {"status": {}}
    shown = {column["name"] for column in version()["additionalPrinterColumns"]}
    assert {"Ready", "Reason", "Prefill", "Decode", "Model", "Age"} <= shown
    for column in version()["additionalPrinterColumns"]:
        if "[?" in column["jsonPath"] or column["jsonPath"].startswith(".metadata"):
            continue
        inner = SCHEMA
        for name in column["jsonPath"].strip(".").split("."):
            inner = inner["properties"][name]


def test_uninstalling_the_chart_keeps_every_model_service() -> None:
    assert committed()["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
