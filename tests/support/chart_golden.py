"""The chart's renderings and the table of its values, as they are committed: `make chart-golden`
writes them, tests compare.

Whole files that the chart carries along (CRD, scripts, dashboards, alerts) have tests of their own:
a golden rendering names them only. Knows no values and no rules about them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from support.chart import CASES, CHART, Case, Object, render_case

OPENING = (
    "# Rendered by `make chart-golden`; a change of this file is a change of what users install.\n"
)
README = CHART / "README.md"
TABLE = re.compile(r"(?<=<!-- values: made by `make chart-golden` -->\n).*?(?=<!-- end -->)", re.S)
SHOWN_CHARS_MAX = 48
CARRIED = (".py", ".json")


def golden_text(case: Case) -> str:
    objects = [_shortened(found) for found in render_case(case)]
    text: str = yaml.safe_dump_all(objects, sort_keys=True, width=100)
    return OPENING + text


def _shortened(found: Object) -> Object:
    if "data" in found:
        data = {
            name: f"(the file {name})" if name.endswith(CARRIED) else text
            for name, text in found["data"].items()
        }
        return {**found, "data": data}
    if found["kind"] == "PrometheusRule":
        names = [group["name"] for group in found["spec"]["groups"]]
        return {**found, "spec": {"groups": [{"name": name} for name in names]}}
    return found


def values_table() -> str:
    """A row per value: its path, what it is by default, what it means."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    rows = [
        f"| `{path}` | {_shown(default)} | {meaning} |"
        for path, default, meaning in leaves(schema, values)
    ]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows]) + "\n"


def leaves(
    schema: Mapping[str, Any], values: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, str]]:
    """Path, default and meaning of every value. Raises KeyError for one without a default."""
    for name, inner in schema["properties"].items():
        here = f"{path}{name}"
        if "properties" in inner:
            yield from leaves(inner, values[name], f"{here}.")
        else:
            yield here, values[name], inner["description"]


def _shown(default: Any) -> str:
    text = json.dumps(default)
    return f"`{text}`" if len(text) <= SHOWN_CHARS_MAX else "see values.yaml"


def readme_text() -> str:
    """The README with its table as it should be."""
    return TABLE.sub(lambda _: values_table(), README.read_text(encoding="utf-8"))


def main() -> None:
    """Write everything that is compared."""
    for case in CASES:
        case.golden.parent.mkdir(exist_ok=True)
        case.golden.write_text(golden_text(case), encoding="utf-8")
    README.write_text(readme_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
