"""`python -m cluster.harness COMMAND`: what the Makefile's targets run."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster.harness import binaries, lifecycle, packages
from cluster.harness.cluster import Cluster, connect, foreign_kubeconfig, say
from cluster.harness.errors import ClusterUnavailable, HarnessError
from cluster.harness.layout import REPOSITORY, TESTS_END_VARIABLE, Layout
from cluster.images.__main__ import UNAVAILABLE
from support.smollm2 import smollm2_model


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster.harness")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start it, or check that the one of KUBECONFIG answers")
    commands.add_parser("down", help="take it down, and what a killed run left")
    tests = commands.add_parser("test", help="up, pytest in the first node's network, down again")
    tests.add_argument(
        "--within-s", type=int, help="tests that would begin later than this are skipped, visibly"
    )
    tests.add_argument("arguments", nargs="*", help="for pytest; after --")
    commands.add_parser("load", help="put image archives into both nodes").add_argument(
        "archives", nargs="+", type=Path
    )
    commands.add_parser("wreck", help="kill all its programs, to see that the next up copes")
    commands.add_parser("kwok", help="build kwok, for the scale benchmark; say where")
    commands.add_parser("tools", help="fetch prometheus, promtool and nginx; say where")
    options = parser.parse_args()
    layout = lifecycle.default_layout()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does: clean up on the way
    try:
        return _obey(options, layout)
    except ClusterUnavailable as missing:
        say(f"no cluster here: {missing}")
    except HarnessError as failed:
        say(f"failed: {failed}")
    return 1


def _obey(options: argparse.Namespace, layout: Layout) -> int:
    match options.command:
        case "up":
            _up(layout)
            _show(connect())
        case "down":
            if foreign_kubeconfig(layout) is None:
                lifecycle.down(layout, say)
        case "wreck":
            lifecycle.wreck(layout)
        case "test":
            end_s = None if options.within_s is None else time.time() + options.within_s
            return _test(layout, options.arguments, end_s)
        case "load":
            for archive in options.archives:
                connect().load_image(archive)
        case "kwok":
            binaries.ensure(layout.binaries, (binaries.KWOK,), say)
            print(layout.binaries / "kwok")
        case "tools":
            print(*packages.ensure_tools(layout.cache, say), sep="\n")
    return 0


def _up(layout: Layout) -> bool:
    """Whether a cluster was started; false where one is used that was there."""
    if foreign_kubeconfig(layout) is None:
        return lifecycle.up(layout, say)
    connect()
    return False


def _test(layout: Layout, arguments: list[str], end_s: float | None) -> int:
    """pytest's status. Takes down the cluster that it started, and leaves one that it found."""
    try:
        started = _up(layout)
    except ClusterUnavailable as missing:
        say(f"SKIPPED, no test of a cluster was run: {missing}")
        return 0
    try:
        # All before pytest: there is no way out of the namespace.
        if status := _images():
            return status
        smollm2_model()
        tools = packages.ensure_tools(layout.cache, say)
        pytest = (sys.executable, "-m", "pytest", *(arguments or ["tests/cluster"]))
        environment = _environment(tools)
        if end_s is not None:
            environment[TESTS_END_VARIABLE] = str(end_s)
        return subprocess.call((*connect().inside, *pytest), cwd=REPOSITORY, env=environment)
    finally:
        if started:
            lifecycle.down(layout, say)


def _images() -> int:
    """0 also where this machine cannot make them; tests that need them are skipped then."""
    made = (sys.executable, "-m", "cluster.images")
    status = subprocess.call(made, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": "tests"})
    if status == UNAVAILABLE:
        say("SKIPPED, no test that needs images is run: this machine cannot make them, see above")
        return 0
    return status


def _environment(tools: list[Path]) -> dict[str, str]:
    """Proxies are of the machine's network; there is none in the node's."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return kept | {"PATH": os.pathsep.join([*map(str, tools), os.environ["PATH"]])}


def _show(cluster: Cluster) -> None:
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    if cluster.layout is None:
        return
    print(f"export PATH={cluster.layout.binaries}:$PATH")
    print("# the cluster has a network of its own; run what talks to it in there, as in:")
    print(f"{' '.join(cluster.inside)} kubectl get nodes")


if __name__ == "__main__":
    sys.exit(main())
