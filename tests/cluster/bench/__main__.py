"""`make bench-operator`: the operator measured on real nodes and on fake ones.

The fake nodes get a network and process ids of their own, so that nothing outlives this process and
no port is taken from anybody. Wires; measures nothing itself.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from baton_loadtest.machine import machine_line
from cluster.bench import fleet, serving
from cluster.bench.fakenodes import PROGRAMS, programs_folder
from cluster.bench.report import (
    OperatorReport,
    Phase,
    Serving,
    as_document,
    fleet_table,
    serving_table,
)
from cluster.harness import binaries, lifecycle
from cluster.harness.cluster import connect, say
from cluster.harness.commands import run
from cluster.harness.errors import HarnessError
from cluster.harness.layout import REPOSITORY
from rich.console import Console

RESULTS = REPOSITORY / "loadtest" / "results"
STOP_LIMIT_S = 5.0
APART = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does: ends the parts too
    try:
        match options.part:
            case "fleet-inside":
                _write(options.into, _fleet_inside(options))
            case "serving-inside":
                _write(options.into, serving.measure(connect(), options.rounds, say))
            case _:
                _report(options)
    except HarnessError as failed:
        say(f"failed: {failed}")
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-operator")
    parts = ("all", "fleet", "serving", "fleet-inside", "serving-inside")
    parser.add_argument("--part", choices=parts, default="all")
    parser.add_argument("--services", type=int, default=500, help="ModelServices on fake nodes")
    parser.add_argument("--idle-s", type=float, default=120.0, help="of each idle phase")
    parser.add_argument("--rounds", type=int, default=2, help="of apply and load step")
    parser.add_argument("--into", type=Path, help="where a part writes what it found")
    return parser.parse_args()


def _report(options: argparse.Namespace) -> None:
    console = Console(width=160)
    load_average = os.getloadavg()[0]
    console.print(f"{machine_line()}; load average {load_average:.1f} before this run")
    rounds: Sequence[Serving] = ()
    phases: Sequence[Phase] = ()
    if options.part in ("all", "serving"):
        rounds = _serving_apart(options)
        console.print(serving_table(rounds))
    if options.part in ("all", "fleet"):
        binaries.ensure(programs_folder(), PROGRAMS, say)
        phases = msgspec.json.decode(_apart(APART, "fleet", options), type=list[Phase])
        console.print(fleet_table(phases))
    commit = run(("git", "describe", "--always", "--dirty"), cwd=REPOSITORY).strip()
    report = OperatorReport(machine_line(), commit, load_average, rounds, phases)
    path = RESULTS / f"operator-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(as_document(report), indent=1) + "\n")
    console.print(f"commit {commit}; {path.relative_to(REPOSITORY)}")


def _serving_apart(options: argparse.Namespace) -> list[Serving]:
    """On the cluster that is up, else on one for this run."""
    layout = lifecycle.default_layout()
    started = lifecycle.up(layout, say)
    try:
        said = _apart(connect().inside, "serving", options)
    finally:
        if started:
            lifecycle.down(layout, say)
    return msgspec.json.decode(said, type=list[Serving])


def _fleet_inside(options: argparse.Namespace) -> list[Phase]:
    folder = options.into.parent / "fleet"  # whoever made the one around it removes both
    folder.mkdir()
    return fleet.measure(folder, options.services, options.idle_s, say)


def _apart(prefix: Sequence[str], part: str, options: argparse.Namespace) -> bytes:
    """What the part wrote, run by this very program behind `prefix`. Raises HarnessError."""
    with tempfile.TemporaryDirectory(prefix="baton-bench-") as folder:
        into = Path(folder) / "found.json"
        argv = (sys.executable, "-m", "cluster.bench", f"--part={part}-inside", f"--into={into}")
        given = (f"--services={options.services}", f"--idle-s={options.idle_s}")
        started = subprocess.Popen((*prefix, *argv, *given, f"--rounds={options.rounds}"))
        try:
            status = started.wait()
        finally:
            _stop(started)
        if status != 0:
            raise HarnessError(f"the part {part} ended with status {status}")
        return into.read_bytes()


def _stop(part: subprocess.Popen[bytes]) -> None:
    """A part that is asked ends its own kubectl and helm; `unshare` has to be killed, and all that
    is behind it goes with it."""
    part.terminate()
    try:
        part.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        part.kill()
        part.wait()


def _write(into: Path, found: object) -> None:
    into.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    sys.exit(main())
