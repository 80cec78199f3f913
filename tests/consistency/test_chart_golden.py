"""What users install, byte for byte: committed renderings, and a README that says every value."""

import difflib
import json

import pytest
import yaml
from support import chart
from support.chart import CASES, CHART, Case
from support.chart_golden import README, golden_text, leaves, readme_text, values_table

pytestmark = pytest.mark.skipif(chart.helm_program() is None, reason="there is no helm here")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rendering_is_the_committed_one(case: Case) -> None:
    committed = case.golden.read_text(encoding="utf-8").splitlines()
    changed = list(
        difflib.unified_diff(committed, golden_text(case).splitlines(), lineterm="", n=1)
    )
    assert changed == [], "look at the difference, then `make chart-golden`"


def test_every_value_file_has_a_golden_rendering() -> None:
    files = {path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir()}
    assert files | {"default"} == {case.name for case in CASES}
    assert {case.golden for case in CASES} == set(chart.GOLDEN.iterdir())


def test_the_readme_has_every_value() -> None:
    assert README.read_text(encoding="utf-8") == readme_text(), "run `make chart-golden`"
    assert values_table() in README.read_text(encoding="utf-8")


def test_values_and_schema_have_the_same_names() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    described = {path for path, _, _ in leaves(schema, values)}
    assert {path.split(".")[0] for path in described} == set(values)
    assert len(described) > 70


def test_every_part_of_the_schema_is_strict() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    parts = [("", schema)]
    open_parts = []
    while parts:
        path, part = parts.pop()
        closed = part.get("additionalProperties") is False
        if "properties" in part and not closed and path != ".global":  # shared with other charts
            open_parts.append(path)
        parts += [(f"{path}.{name}", inner) for name, inner in part.get("properties", {}).items()]
    assert open_parts == []
