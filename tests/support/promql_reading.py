"""Reads PromQL the way the checks of boards and rules need it: which metrics, inside which calls.

Knows the parser; knows no metric.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as promql

Node = promql.Expr

COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}


@dataclass(frozen=True)
class Use:
    """One selector, with the functions and aggregations around it from the outermost in."""

    metric: str
    labels: tuple[str, ...]
    around: tuple[str, ...]
    grouping: tuple[tuple[str, ...], ...]  # of the aggregations among them


def uses(query: str) -> list[Use]:
    """Every selector of a query. Raises ValueError for what is no PromQL."""
    return list(_uses(promql.parse(query), (), ()))


def _uses(
    node: Node, around: tuple[str, ...], grouping: tuple[tuple[str, ...], ...]
) -> Iterator[Use]:
    match node:
        case promql.VectorSelector():
            labels = tuple(one.name for one in node.matchers.matchers)
            yield Use(node.name or "", labels, around, grouping)
        case promql.MatrixSelector():
            yield from _uses(node.vector_selector, around, grouping)
        case promql.Call():
            for argument in node.args:
                yield from _uses(argument, (*around, node.func.name), grouping)
        case promql.AggregateExpr():
            labels = tuple(node.modifier.labels) if node.modifier else ()
            inner = (*around, str(node.op))
            yield from _uses(node.expr, inner, (*grouping, labels))
        case promql.BinaryExpr():
            yield from _uses(node.lhs, around, grouping)
            yield from _uses(node.rhs, around, grouping)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _uses(node.expr, around, grouping)
        case promql.NumberLiteral() | promql.StringLiteral():
            return
        case _:
            raise TypeError(f"unknown PromQL node {type(node).__name__}")


def compared(query: str) -> list[str]:
    """What an alert compares with its thresholds: parts that have a value in quiet times too."""
    return list(_compared(promql.parse(query)))


def _compared(node: Node) -> Iterator[str]:
    match node:
        case promql.ParenExpr():
            yield from _compared(node.expr)
        case promql.BinaryExpr() if str(node.op) in COMPARISONS:
            yield node.lhs.prettify()
        case promql.BinaryExpr() if str(node.op) in {"and", "or", "unless"}:
            yield from _compared(node.lhs)
            yield from _compared(node.rhs)
        case promql.Call() if node.func.name == "absent":
            yield node.args[0].prettify()
        case _:
            yield node.prettify()
