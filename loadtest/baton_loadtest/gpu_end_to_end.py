"""The work of the engine alone once more, through HTTP, router, prefill worker, hand-off and decode
worker on one device.

Prompts are sent twice. The first time they take the whole road, and their answers end at once. Then
decode holds their KV: all begin together, at the context of the engine alone, and prefill, which
shares the device here, does not slow what is measured. Knows requests and times; knows no engine.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from baton.common.clock import Clock
from baton.common.errors import Unavailable
from baton.engine.devices import DeviceChoice
from baton.worker.settings import STEP_TOKENS

from baton_loadtest.gpu_bench import OUTPUT_TOKENS, PREFILLS
from baton_loadtest.gpu_handoff import measure_handoff, prompts_by_reason
from baton_loadtest.gpu_report import EndToEndFound, decode_work, prefill_work
from baton_loadtest.gpu_spec import GpuBenchSpec
from baton_loadtest.gpu_stack import MODEL_NAME, GpuStack, GpuStackSpec, running_gpu_stack
from baton_loadtest.load_processes import LoadProcesses
from baton_loadtest.random_folder import write_random_model
from baton_loadtest.stats import Observation
from baton_loadtest.workload import PlannedRequest, plan_requests, prompt_ids

SHORTEST_OUTPUT_TOKENS = 2
"""Fewer are no stream."""

HANDOFFS = 8

HANDOFF_TOKENS_MAX = STEP_TOKENS[DeviceChoice.CUDA]
"""A step of a prefill worker there: of a longer prompt, moving overlaps with computing, and neither
can be told from the whole."""

HANDOFF_SEED = 1_000_000
"""Far from the seeds of the other prompts: none of these may be in a cache."""

RUN_LIMIT_S = 300.0
"""64 requests take seconds on a GPU; a tiny model on a busy processor may take a minute."""


class Load(Protocol):
    async def run(
        self, requests: Sequence[PlannedRequest], *, limit_s: float
    ) -> tuple[Observation, ...]: ...


class Watched(Protocol):
    """A stack, as far as it is watched."""

    @property
    def ended(self) -> str | None: ...

    async def while_up(self, work: Coroutine[None, None, None]) -> None: ...


Listener = Callable[[str], None]
"""Hears what is being done; the terminal."""

Found = Callable[[EndToEndFound], None]
"""Hears all that is known, each time that it is more."""

Step = Callable[[EndToEndFound], Awaitable[EndToEndFound]]
"""One thing measured: what is known with it, from what is known before."""


class EndToEndBench:
    """Counts what `EngineBench` counts, as a client sees it."""

    def __init__(self, load: Load, *, output_tokens: int = OUTPUT_TOKENS) -> None:
        self._load, self._output_tokens = load, output_tokens
        self._seed = 0

    async def decode_tokens_per_s(self, requests: int, context_tokens: int) -> float:
        """Raises Unavailable where the requests were never under way together."""
        short = self._plan(requests, context_tokens - self._output_tokens // 2)
        await self._load.run(short, limit_s=RUN_LIMIT_S)
        whole = [replace(request, output_tokens=self._output_tokens) for request in short]
        return steady_tokens_per_s(await self._load.run(whole, limit_s=RUN_LIMIT_S))

    async def prefill_tokens_per_s(self, prompt_tokens: int) -> float:
        """Of one prompt, from its sending to its first token; the best of some."""
        found = [
            await self._load.run(self._plan(1, prompt_tokens), limit_s=RUN_LIMIT_S)
            for _ in range(PREFILLS)
        ]
        return prompt_tokens / min(one.ttft_s for (one,) in found)

    def _plan(self, requests: int, prompt_tokens: int) -> tuple[PlannedRequest, ...]:
        """Prompts that were not asked before."""
        self._seed += 1
        return plan_requests(
            requests,
            prompt_tokens=prompt_tokens,
            output_tokens=SHORTEST_OUTPUT_TOKENS,
            seed=self._seed,
        )


def steady_tokens_per_s(observed: Sequence[Observation]) -> float:
    """Output of all requests together, from when every one has begun to when the first ends.

    Raises Unavailable where there was no such time, or a chunk was not a token.
    """
    if any(len(one.chunk_times_s) != one.output_tokens for one in observed):
        raise Unavailable("tokens came several in a chunk: they cannot be counted by their times")
    begun_s = max(one.chunk_times_s[0] for one in observed)
    ended_s = min(one.chunk_times_s[-1] for one in observed)
    if ended_s <= begun_s:
        raise Unavailable("the first request had ended before the last began")
    times_s = [time_s for one in observed for time_s in one.chunk_times_s]
    return sum(begun_s < time_s <= ended_s for time_s in times_s) / (ended_s - begun_s)


async def measure_end_to_end(
    spec: GpuBenchSpec,
    *,
    device: DeviceChoice,
    log: Path,
    clock: Clock,
    listener: Listener,
    found: Found,
) -> None:
    """Writes a model of random weights, starts a stack on it and stops it again; `log` gets what
    the stack says. Raises Unavailable, DeadlineExceeded; what was measured before is told."""
    with TemporaryDirectory(prefix="baton-random-") as name:
        folder = Path(name)
        listener("end to end: writing random weights")
        write_random_model(folder, spec.config)
        listener(f"end to end: starting prefill, decode and router, which write to {log}")
        stack_spec = GpuStackSpec(
            model=folder,
            device=device,
            quantization=spec.quantization,
            kv_cache_dtype=spec.kv_cache_dtype,
            memory_fraction=spec.memory_fraction,
            log=log,
        )
        async with running_gpu_stack(stack_spec, clock=clock) as stack:
            with LoadProcesses(stack.url, MODEL_NAME) as load:
                await EndToEndTable(stack, listener, found).fill(steps(spec, stack, load))


def steps(spec: GpuBenchSpec, stack: GpuStack, load: Load) -> Iterator[tuple[str, Step]]:
    """Everything that is measured, by what it is called; the hand-off on untouched workers."""
    handed_over = min(spec.context_tokens - OUTPUT_TOKENS // 2, HANDOFF_TOKENS_MAX)
    lone = [prompt_ids(HANDOFF_SEED, index, handed_over) for index in range(HANDOFFS + 1)]
    bench = EndToEndBench(load)

    async def handoff(found: EndToEndFound) -> EndToEndFound:
        return replace(found, handoff=await measure_handoff(stack, lone))

    async def prompts(found: EndToEndFound) -> EndToEndFound:
        return replace(found, prompts=await prompts_by_reason(stack))

    yield "hand-off", handoff
    for tokens in spec.prompts:
        yield _speed(prefill_work(tokens), partial(bench.prefill_tokens_per_s, tokens))
    for count in spec.requests:
        rate = partial(bench.decode_tokens_per_s, count, spec.context_tokens)
        yield _speed(decode_work(count), rate)
    yield "prompts", prompts


def _speed(work: str, measure: Callable[[], Awaitable[float]]) -> tuple[str, Step]:
    async def speed(found: EndToEndFound) -> EndToEndFound:
        return replace(found, tokens_per_s={**found.tokens_per_s, work: await measure()})

    return work, speed


class EndToEndTable:
    """Tells what is known after each step. One that fails leaves the others, but where a process
    of the stack has ended there is nobody to ask."""

    def __init__(self, stack: Watched, listener: Listener, found: Found) -> None:
        self._stack, self._listener, self._tell = stack, listener, found
        self._found = EndToEndFound()

    async def fill(self, steps: Iterable[tuple[str, Step]]) -> None:
        """Raises Unavailable, from the first, for the steps that failed."""
        failed: dict[str, Exception] = {}
        for name, step in steps:
            try:
                await self._stack.while_up(self._take(name, step))
            except Exception as error:  # whatever it is: what comes next may go well
                self._listener(f"end to end: {name} failed: {error!r}")
                failed[name] = error
                if self._stack.ended is not None:
                    break
        if failed:
            raise Unavailable(f"not measured: {', '.join(failed)}") from next(iter(failed.values()))

    async def _take(self, name: str, step: Step) -> None:
        self._found = await step(self._found)
        self._tell(self._found)
        rates = self._found.tokens_per_s
        said = {work: f"{work}: {rate:,.0f} tok/s" for work, rate in rates.items()}
        said |= {"hand-off": self._found.handoff_line, "prompts": self._found.prompts_line}
        self._listener(f"end to end: {said[name]}")
