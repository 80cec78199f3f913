"""Finds where code reports metrics: every name given to a reporting call, from the syntax tree.

Knows how our code spells it; knows no registry.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Of Metrics and of the operator's OperatorMetrics.
REPORTS = {
    *("count", "gauge", "observe", "follow", "under_way", "counting", "observing"),
    *("service_gauge", "service_count"),
}
_OWN_ARGUMENTS = {"amount", "value"}  # of those calls; every other keyword is a label
PREFIXES = ("vllm:", "baton_", "controller_runtime_", "workqueue_", "leader_", "rest_client_")


@dataclass(frozen=True)
class Report:
    where: str  # "path:line"
    name: str
    labels: frozenset[str] | None  # None: not to be read from the call


def reports(root: Path, folder: Path) -> list[Report]:
    """Every reporting call with a literal name below `folder`."""
    return [
        report
        for path in sorted((root / folder).rglob("*.py"))
        for report in reports_of(path.read_text(), str(path.relative_to(root)))
    ]


def reports_of(source: str, where: str) -> list[Report]:
    return list(_reports(ast.parse(source), where))


def _reports(tree: ast.Module, where: str) -> Iterator[Report]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=attr), args=[first, *_]) if attr in REPORTS:
                name = _name(first)
                if name is not None:
                    yield Report(f"{where}:{node.lineno}", name, _labels(node))


def mentioned(root: Path, folder: Path, *, besides: Path) -> set[str]:
    """Every string below `folder` that looks like a metric's name: reported there, or passed on to
    where it is. Not in the tables of `besides`."""
    found: set[str] = set()
    for path in (root / folder).rglob("*.py"):
        if path != root / besides:
            names = (_name(node) for node in ast.walk(ast.parse(path.read_text())))
            found.update(name for name in names if name is not None)
    return found


def _name(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str() as value) if value.startswith(PREFIXES):
            return value
        case _:
            return None


def _labels(call: ast.Call) -> frozenset[str] | None:
    names = {keyword.arg for keyword in call.keywords}
    if None in names:
        return None
    return frozenset(name for name in names if name is not None) - _OWN_ARGUMENTS
