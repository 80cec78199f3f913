"""Alerts and recording rules: committed as generated, documented, and firing when they should."""

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from baton_loadtest.observability.alerts import Alert, alerts
from baton_loadtest.observability.metrics_page import all_specs
from baton_loadtest.observability.recording import recordings
from baton_loadtest.observability.rules import rules_files
from support.alert_cases import Case, alert_cases
from support.prometheus_tools import prometheus_tools
from support.promql_checks import problems_of

ROOT = Path(__file__).resolve().parents[2]
PROMTOOL_LIMIT_S = 120.0

ALERTS = {alert.name: alert for alert in alerts()}
RECORDED = frozenset(recording.name for recording in recordings())


@pytest.mark.parametrize("path", sorted(rules_files()), ids=str)
def test_the_committed_rules_are_the_generated_ones(path: Path) -> None:
    assert (ROOT / path).read_text() == rules_files()[path], "run `make dashboards`"


@pytest.mark.parametrize("rule", [*alerts(), *recordings()], ids=lambda rule: rule.name)
def test_a_rule_uses_registered_metrics_in_the_right_way(rule: Alert) -> None:
    assert problems_of(rule.expr, all_specs(), recorded=RECORDED) == []


def test_names_are_given_once() -> None:
    assert len(ALERTS) == len(alerts())
    assert len(RECORDED) == len(recordings())


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_what_it_is_and_where_its_runbook_stands(alert: Alert) -> None:
    assert alert.summary
    assert alert.description.endswith(".")
    page, anchor = alert.runbook.split("#")
    headings = [
        line.removeprefix("### ").strip()
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("### ")
    ]
    assert alert.heading in headings
    assert anchor == alert.heading.lower()


def test_every_runbook_belongs_to_an_alert() -> None:
    lines = (ROOT / "docs/operations.md").read_text().splitlines()
    runbooks = {line.removeprefix("### ") for line in lines if line.startswith("### Baton")}
    assert runbooks == {alert.heading for alert in alerts()}


def test_every_alert_is_seen_firing_and_silent() -> None:
    cases = alert_cases()
    assert {case.alert for case in cases if case.fires} == set(ALERTS)
    assert {case.alert for case in cases if not case.fires} == set(ALERTS)


def test_promtool_takes_the_rules() -> None:
    _promtool("check", "rules", *(str(ROOT / path) for path in rules_files()))


@pytest.mark.parametrize("step_minutes", sorted({case.step_minutes for case in alert_cases()}))
def test_alerts_fire_when_they_should_and_only_then(step_minutes: int, tmp_path: Path) -> None:
    cases = [case for case in alert_cases() if case.step_minutes == step_minutes]
    _promtool("test", "rules", str(_suite(cases, step_minutes, tmp_path)))


def test_promtool_would_notice_an_alert_that_does_not_fire(tmp_path: Path) -> None:
    [case, *_] = [case for case in alert_cases() if case.fires]
    wrong = replace(case, fires=not case.fires)
    with pytest.raises(AssertionError, match=case.alert):
        _promtool("test", "rules", str(_suite([wrong], case.step_minutes, tmp_path)))


def _suite(cases: Sequence[Case], step_minutes: int, folder: Path) -> Path:
    suite = {
        "rule_files": [str(ROOT / path) for path in rules_files()],
        "evaluation_interval": f"{step_minutes}m",
        "tests": [_promtool_test(case) for case in cases],
    }
    file = folder / "alerts_test.yaml"
    file.write_text(yaml.safe_dump(suite, width=200))
    return file


def _promtool_test(case: Case) -> dict[str, object]:
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    return {
        "interval": f"{case.step_minutes}m",
        "name": f"{case.alert}: {case.world}",
        "input_series": [
            {"series": name, "values": values} for name, values in case.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"count({firing}) or vector(0)",
                "eval_time": f"{case.minute}m",
                "exp_samples": [{"labels": "{}", "value": int(case.fires)}],
            }
        ],
    }


def _promtool(*arguments: str) -> None:
    result = subprocess.run(
        [str(prometheus_tools().promtool), *arguments],
        capture_output=True,
        text=True,
        timeout=PROMTOOL_LIMIT_S,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
