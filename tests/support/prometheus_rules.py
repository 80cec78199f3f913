"""Prometheus rules with their time compressed: every duration divided by one factor. Pure.

So a rule that watches an hour can be watched in a minute, and is otherwise the committed one. A
threshold in seconds is no duration of the rule: it belongs to what is measured, and stays. Knows
the lexical form of PromQL and of rule files; knows no rule.
"""

import re
from collections.abc import Mapping
from typing import Any

RULE_DURATIONS = ("for", "keep_firing_for")
GROUP_DURATIONS = ("interval", "query_offset")

_UNITS_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_DURATION = rf"(?:{_PART.pattern.replace('(', '(?:')})+"

# Quoted text first: what stands in it is no syntax.
_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)"""
    r"|(?P<range>\[[^\]]*\])"
    rf"|(?P<offset>\boffset\s+-?\s*{_DURATION})"
)

Rules = Mapping[str, Any]


def compressed(rules: Rules, factor: float) -> dict[str, Any]:
    """A rule file's content, with every duration divided by `factor`."""
    return {**rules, "groups": [_group(group, factor) for group in rules["groups"]]}


def compressed_expr(expr: str, factor: float) -> str:
    """A PromQL expression with its ranges, steps and offsets divided by `factor`."""

    def token(match: re.Match[str]) -> str:
        return match[0] if match["text"] else _each(match[0], factor)

    return _TOKEN.sub(token, expr)


def compressed_duration(duration: str, factor: float) -> str:
    """In milliseconds, Prometheus' smallest unit. Raises ValueError for what is no duration."""
    if not re.fullmatch(_DURATION, duration):
        raise ValueError(f"no duration: {duration!r}")
    return _each(duration, factor)


def _each(text: str, factor: float) -> str:
    """Every duration in a piece of syntax."""

    def shorter(match: re.Match[str]) -> str:
        whole_ms = sum(int(count) * _UNITS_MS[unit] for count, unit in _PART.findall(match[0]))
        return f"{round(whole_ms / factor)}ms"

    return re.sub(_DURATION, shorter, text)


def _group(group: Rules, factor: float) -> dict[str, Any]:
    shorter = _timed(group, GROUP_DURATIONS, factor)
    return {**group, **shorter, "rules": [_rule(rule, factor) for rule in group["rules"]]}


def _rule(rule: Rules, factor: float) -> dict[str, Any]:
    shorter = _timed(rule, RULE_DURATIONS, factor)
    return {**rule, **shorter, "expr": compressed_expr(rule["expr"], factor)}


def _timed(fields: Rules, names: tuple[str, ...], factor: float) -> dict[str, str]:
    return {name: compressed_duration(fields[name], factor) for name in names if name in fields}
