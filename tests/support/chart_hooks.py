"""The chart's hook scripts as modules. They stand in the chart, outside every source root."""

import importlib.util
from types import ModuleType

from support.chart import CHART


def hook_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CHART / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
