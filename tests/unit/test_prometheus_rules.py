"""Rules with compressed time: every duration is shorter by the factor, and that is all.

Prometheus' own grammar, read by promql_parser, says which the durations are.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import promql_parser as promql
import pytest
import yaml
from support.prometheus_rules import compressed, compressed_duration, compressed_expr

RULES = Path(__file__).resolve().parents[2] / "deploy/helm/baton/rules"
FACTOR = 60.0


def durations(node: promql.Expr) -> Iterator[timedelta]:
    """Of every range, step and offset, in the order of the text."""
    match node:
        case promql.VectorSelector():
            yield from given(node.offset)
        case promql.MatrixSelector():
            yield from durations(node.vector_selector)
            yield node.range
        case promql.SubqueryExpr():
            yield from durations(node.expr)
            yield from given(node.range, node.step)
        case promql.Call():
            for argument in node.args:
                yield from durations(argument)
        case promql.BinaryExpr():
            yield from durations(node.lhs)
            yield from durations(node.rhs)
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr():
            yield from durations(node.expr)


def given(*found: timedelta | None) -> Iterator[timedelta]:
    yield from (one for one in found if one is not None)


def without_durations(expr: str) -> str:
    """The syntax around them."""
    return re.sub(r"\b[0-9]+(ms|[smhdwy])\b(?=[]:])", "T", promql.parse(expr).prettify())


def committed() -> list[dict[str, str]]:
    files = sorted(RULES.glob("*.yaml"))
    return [rule for one in files for rule in yaml.safe_load(one.read_text())["groups"][0]["rules"]]


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("rate(a[5m])", "rate(a[5000ms])"),
        ("rate(a[1h30m])", "rate(a[90000ms])"),
        ("a offset 10m", "a offset 10000ms"),
        ("a offset -10m", "a offset -10000ms"),
        ("max_over_time(rate(a[5m])[1h:1m])", "max_over_time(rate(a[5000ms])[60000ms:1000ms])"),
        ("max_over_time(rate(a[5m])[1h:])", "max_over_time(rate(a[5000ms])[60000ms:])"),
        ("a:b:rate5m > 300", "a:b:rate5m > 300"),
        ("a{path=\"/[5m]\", x=~'offset 5m'}", "a{path=\"/[5m]\", x=~'offset 5m'}"),
        ('rate(a{path="\\"[5m]"}[5m])', 'rate(a{path="\\"[5m]"}[5000ms])'),
    ],
)
def test_ranges_steps_and_offsets_are_shorter_and_text_and_numbers_are_not(
    expr: str, expected: str
) -> None:
    assert compressed_expr(expr, FACTOR) == expected


@pytest.mark.parametrize(
    "rule", committed(), ids=lambda rule: rule.get("alert", rule.get("record"))
)
def test_of_every_committed_rule_all_durations_are_shorter_and_nothing_else_is_different(
    rule: dict[str, str],
) -> None:
    before, after = rule["expr"], compressed_expr(rule["expr"], FACTOR)
    assert [one * FACTOR for one in durations(promql.parse(after))] == list(
        durations(promql.parse(before))
    )
    assert without_durations(after) == without_durations(before)


def test_the_grammar_finds_durations_in_the_committed_rules() -> None:
    found = [one for rule in committed() for one in durations(promql.parse(rule["expr"]))]
    assert len(found) > 20


def test_the_times_of_a_file_are_shorter_and_names_labels_and_texts_stay() -> None:
    rule = {
        "alert": "Wrong5m",
        "expr": "rate(a[10m]) > 600",
        "for": "1h",
        "keep_firing_for": "0m",
        "labels": {"severity": "critical"},
        "annotations": {"summary": "since [5m]"},
    }
    group = {"name": "g", "interval": "30s", "rules": [rule, {"record": "b", "expr": "a"}]}
    [shorter] = compressed({"groups": [group]}, FACTOR)["groups"]
    assert shorter == {
        "name": "g",
        "interval": "500ms",
        "rules": [
            {
                **rule,
                "expr": "rate(a[10000ms]) > 600",
                "for": "60000ms",
                "keep_firing_for": "0ms",
            },
            {"record": "b", "expr": "a"},
        ],
    }


def test_what_is_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="no duration: 'soon'"):
        compressed_duration("soon", FACTOR)


def test_a_factor_of_one_changes_no_duration() -> None:
    [rule, *_] = committed()
    same = compressed_expr(rule["expr"], 1.0)
    assert list(durations(promql.parse(same))) == list(durations(promql.parse(rule["expr"])))
