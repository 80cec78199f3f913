"""The two things a comparison acts with: servers as processes, and the client as one.

Knows where logs and results lie; knows no order and no table.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from baton.common.clock import SystemClock

from baton_loadtest.peers import client
from baton_loadtest.peers.client import Load, LoadCommand, Measurement
from baton_loadtest.peers.contestant import Contestant
from baton_loadtest.peers.process import Runner
from baton_loadtest.peers.server import serving


@dataclass(frozen=True, slots=True)
class LocalServers:
    """Contestants as processes of this machine."""

    logs: Path
    http: httpx.Client

    @contextmanager
    def serving(self, contestant: Contestant, round_: int) -> Iterator[str]:
        log = self.logs / f"serve-{contestant.slug}-{round_}.log"
        log.unlink(missing_ok=True)  # of an earlier run
        with serving(contestant, log, self.http, clock=SystemClock(), pause=time.sleep) as url:
            yield url


@dataclass(frozen=True, slots=True)
class BoundedClient:
    """The load client as a process; keeps the essence of each result beside the table."""

    command: LoadCommand
    results: Path
    runner: Runner

    def measure(self, contestant: Contestant, url: str, round_: int, load: Load) -> Measurement:
        name = f"{contestant.slug}-{load.concurrency}-round-{round_}"
        kept = self.results / "client" / f"{name}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        whole, log = kept.with_suffix(".whole"), kept.with_suffix(".log")
        try:
            self.runner.run(self.command.command(url, contestant.model_name, load, whole), log)
            result = client.read_result(whole)
        finally:
            whole.unlink(missing_ok=True)
        log.unlink()  # kept only when the client failed
        kept.write_text(client.as_json(result))
        return client.measurement(result, load)
