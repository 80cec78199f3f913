"""Keeps one contestant served for as long as it is measured.

Starts its process group, waits until it is ready, warms it, stops it. Knows no numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from baton.cli.child import described_exit
from baton.cli.ports import free_ports
from baton.cli.readiness import ready_workers
from baton.common.clock import Clock
from baton.common.errors import DeadlineExceeded, Unavailable

from baton_loadtest.peers.contestant import Contestant, endpoint
from baton_loadtest.peers.process import Pause, ProcessGroup, last_words

STOP_LIMIT_S = 30.0
"""`baton serve` gives its children 10 s before it kills them; vLLM takes about as long."""

PROBE_TIMEOUT_S = 2.0
PROBE_INTERVAL_S = 0.5
"""Rare enough to leave the cores to the server that starts."""

WARM_UP_REQUESTS = 2
WARM_UP_TOKENS = 16
WARM_UP_PROMPT = "Warm and ready. " * 40
"""About as long as the prompts to come; shares no prefix with them."""

WARM_UP_TIMEOUT_S = 120.0


@contextmanager
def serving(
    contestant: Contestant,
    log: Path,
    http: httpx.Client,
    *,
    clock: Clock,
    pause: Pause,
) -> Iterator[str]:
    """The address of the ready contestant. Raises Unavailable, DeadlineExceeded."""
    [port] = free_ports(1)
    command = contestant.serve(port)
    group = ProcessGroup(command, log, clock=clock, pause=pause)
    try:
        give_up_s = clock.monotonic_s() + command.limit_s
        while not is_ready(contestant, http, endpoint(port)):
            if (code := group.exit_code()) is not None:
                raise Unavailable(f"it ended with {described_exit(code)}: {last_words(log)}")
            if clock.monotonic_s() > give_up_s:
                raise DeadlineExceeded(f"not ready after {command.limit_s:.0f} s")
            pause(PROBE_INTERVAL_S)
        warm_up(contestant, http, endpoint(port))
        yield endpoint(port)
    finally:
        group.stop(STOP_LIMIT_S)


def is_ready(contestant: Contestant, http: httpx.Client, url: str) -> bool:
    try:
        answer = http.get(f"{url}{contestant.ready_path}", timeout=PROBE_TIMEOUT_S)
    except httpx.TransportError:
        return False
    if answer.status_code != httpx.codes.OK:
        return False
    return contestant.workers is None or ready_workers(answer) == contestant.workers


def warm_up(contestant: Contestant, http: httpx.Client, url: str) -> None:
    """Lets allocators, kernels and channels come up. Raises Unavailable when it is refused."""
    body = {
        "model": contestant.model_name,
        "prompt": WARM_UP_PROMPT,
        "max_tokens": WARM_UP_TOKENS,
        "temperature": 0,
    }
    for _ in range(WARM_UP_REQUESTS):
        try:
            answer = http.post(f"{url}/v1/completions", json=body, timeout=WARM_UP_TIMEOUT_S)
        except httpx.TransportError as error:
            raise Unavailable(f"the first request: {type(error).__name__}") from error
        if answer.is_error:
            raise Unavailable(f"the first request: {answer.status_code} {answer.text[:300]}")
