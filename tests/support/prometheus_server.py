"""A real Prometheus on loopback: scrapes what it is told to, evaluates the chart's rules, answers
queries.

Knows Prometheus' configuration and HTTP API; knows no boards, and not where the targets come from.
"""

import math
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from support.prometheus_rules import compressed
from support.prometheus_tools import prometheus_tools
from support.stack import free_port

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/helm/baton/rules"

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
POLL_S = 0.1
SCRAPE_INTERVAL = "1s"

ScrapeConfig = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A query's samples, as of now."""

    values: tuple[float, ...]

    @property
    def has_data(self) -> bool:
        return bool(self.values)

    @property
    def is_number(self) -> bool:
        return not any(math.isnan(value) for value in self.values)


@dataclass(frozen=True)
class FiringAlert:
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expr: str) -> Answer:
        """Raises AssertionError for what Prometheus does not take."""
        answer = self._get("/api/v1/query", query=expr)
        if answer["resultType"] == "scalar":
            return Answer((float(answer["result"][1]),))
        return Answer(tuple(float(sample["value"][1]) for sample in answer["result"]))

    def targets_up(self) -> int:
        return sum(
            target["health"] == "up" for target in self._get("/api/v1/targets")["activeTargets"]
        )

    def alert_states(self) -> dict[str, str]:
        """Of the alerts that are pending or firing, by name; firing, if any of its series is."""
        found = {(one["labels"]["alertname"], one["state"]) for one in self._alerts()}
        return dict(sorted(found, key=lambda one: one[1] == "firing"))

    def firing(self) -> list[FiringAlert]:
        """By name and series, as Alertmanager would be told now."""
        return [
            FiringAlert(one["labels"]["alertname"], one["labels"], one["annotations"])
            for one in self._alerts()
            if one["state"] == "firing"
        ]

    def ever_fired(self) -> set[str]:
        """Names of the alerts that fired at any evaluation since the start."""
        expr = 'group by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1d]))'
        found = self._get("/api/v1/query", query=expr)["result"]
        return {sample["metric"]["alertname"] for sample in found}

    def wait_for(self, expr: str, limit_s: float) -> None:
        """Until a query has data."""
        deadline_s = time.monotonic() + limit_s
        while not self.query(expr).has_data:
            assert time.monotonic() < deadline_s, f"no data within {limit_s:g} s: {expr}"
            time.sleep(POLL_S)

    def problems(self, queries: Mapping[str, str]) -> list[str]:
        """What is wrong with the answers to queries, by the queries' names."""
        found = []
        for name, expr in queries.items():
            answer = self.query(expr)
            if not answer.has_data:
                found.append(f"{name}: no data: {expr}")
            elif not answer.is_number:
                found.append(f"{name}: NaN: {expr}")
        return found

    def _alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/api/v1/alerts")["alerts"]
        return found

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        answer = httpx.get(self.url + path, params=parameters, trust_env=False).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        data: dict[str, Any] = answer["data"]
        return data


def static_targets(targets: Mapping[str, Mapping[str, str]]) -> ScrapeConfig:
    """Addresses with the labels that a PodMonitor would give them."""
    return {
        "job_name": "baton",
        "honor_labels": True,
        "static_configs": [
            {"targets": [address], "labels": dict(labels)} for address, labels in targets.items()
        ],
    }


def listed_targets(path: Path) -> ScrapeConfig:
    """What a file lists, which may change while Prometheus runs. Debian's Prometheus comes without
    discovery of Kubernetes."""
    return {
        "job_name": "baton",
        "honor_labels": True,
        "file_sd_configs": [{"files": [str(path)], "refresh_interval": SCRAPE_INTERVAL}],
    }


def pod_targets(pods: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A target list: pods as the chart's PodMonitors choose and label them."""
    return [
        {
            "targets": [f"{pod['status']['podIP']}:{port['containerPort']}"],
            "labels": {
                "namespace": pod["metadata"]["namespace"],
                "pod": pod["metadata"]["name"],
                "service": pod["metadata"]["labels"]["app.kubernetes.io/instance"],
                "role": pod["metadata"]["labels"]["app.kubernetes.io/component"],
            },
        }
        for pod in pods
        if pod["status"].get("phase") == "Running" and pod["status"].get("podIP")
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
        if port.get("name") == "metrics"
    ]


def _rules(folder: Path, factor: float) -> str:
    """Where the chart's rules are, or a copy of them with compressed time."""
    if factor == 1:
        return f"{RULES}/*.yaml"
    copies = folder / "rules"
    copies.mkdir()
    for path in RULES.glob("*.yaml"):
        rules = compressed(yaml.safe_load(path.read_text()), factor)
        (copies / path.name).write_text(yaml.safe_dump(rules))
    return f"{copies}/*.yaml"


@contextmanager
def running_prometheus(
    folder: Path, scrapes: Sequence[ScrapeConfig], *, factor: float = 1
) -> Iterator[Prometheus]:
    """Ready; whatever the test does, it is gone afterwards. `factor`: so much sooner do alerts
    fire, and so much sooner they forget."""
    config = folder / "prometheus.yaml"
    interval = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
    config.write_text(
        yaml.safe_dump(
            {
                "global": interval,
                "rule_files": [_rules(folder, factor)],
                "scrape_configs": list(scrapes),
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(prometheus_tools().prometheus),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _await_ready(process, f"http://{address}", folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT_S)


def _await_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline_s = time.monotonic() + READY_LIMIT_S
    while True:
        assert process.poll() is None, f"Prometheus ended:\n{log.read_text()}"
        assert time.monotonic() < deadline_s, f"Prometheus is not ready:\n{log.read_text()}"
        try:
            if httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_S)
