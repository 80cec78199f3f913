"""What the router knows of its workers, put together: views, loads, cached prefixes, work on its
way, last words. It answers one question: where does this request go.

Pure. Time and turns come in as numbers; who listens to workers and who waits is elsewhere.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from baton.engine.identity import block_id, root_id
from baton.router.decide import Candidate, Decision, Need, Reason, decide
from baton.router.fleet import Fleet, Heard, Layout, Role, WorkerLoad, WorkerState, WorkerView
from baton.router.prefix_index import PrefixIndex
from baton.router.underway import Sent, Underway

BLOCKS_LOOKED_UP_MAX = 4_096
"""65,000 tokens in blocks of 16, hashed in 10 ms; what lies behind counts as uncached."""

FAREWELLS_MAX = 1_024
"""Processes that said they were draining: those of many rollouts, and of every one under way."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be computed, and under which salt its KV is known."""

    token_ids: Sequence[int]
    cache_salt: bytes = b""


@dataclass(frozen=True, slots=True)
class Report:
    """How busy a worker said it was, and when."""

    load: WorkerLoad
    heard_s: float


class Picture:
    """`fleet` is replaced whole when a worker changes, and not when only its load does.
    `cores_shared`: as `decide` says."""

    def __init__(self, *, cores_shared: bool = False) -> None:
        self.fleet = Fleet()
        self._cores_shared = cores_shared
        self._views: dict[str, WorkerView] = {}
        self._reports: dict[str, Report] = {}
        self._index = PrefixIndex()
        self._underway = Underway()
        self._farewells: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._turn = 0

    def hear(self, heard: Heard, now_s: float) -> bool:
        """Take in an event. Whether `fleet` is another one now."""
        view, address = heard.view, heard.view.address
        self._reports[address] = Report(heard.load, now_s)
        self._underway.reported(address, now_s)
        if heard.snapshot:
            self._index.forget(address)
        self._index.remove(address, heard.blocks_removed)
        self._index.add(address, heard.blocks_added)
        if view.state is WorkerState.DRAINING:
            self._note_farewell(view.process)
        return self._replace(address, view)

    def lose(self, address: str) -> bool:
        """The worker is not heard any more. Whether `fleet` is another one now."""
        self._reports.pop(address, None)
        self._index.forget(address)
        self._underway.forget(address)
        return self._replace(address, None)

    def view(self, address: str) -> WorkerView | None:
        return self._views.get(address)

    def left_politely(self, view: WorkerView) -> bool:
        """Whether this process said that it was draining: its end is no crash."""
        return view.process in self._farewells

    def reports(self) -> list[tuple[WorkerView, Report]]:
        return [(view, self._reports[view.address]) for view in self.fleet.workers]

    def decide(self, need: Need, prompt: Prompt, now_s: float) -> Decision | None:
        """A decision, counted as load from now on if it is timely. None: no worker can take the
        request."""
        if not self.fleet.workers:
            return None
        self._turn += 1
        cached = self._cached_tokens(prompt)
        candidates = [self._candidate(view, cached) for view in self.fleet.workers if view.ready]
        decision = decide(candidates, need, self._turn, cores_shared=self._cores_shared)
        if decision is not None and decision.timely:
            self._count(decision, need, cached, now_s)
        return decision

    def _candidate(self, view: WorkerView, cached: dict[str, int]) -> Candidate:
        report = self._reports[view.address]
        load = self._underway.added_to(view.address, report.load)
        return Candidate(view, load, cached.get(view.address, 0))

    def _cached_tokens(self, prompt: Prompt) -> dict[str, int]:
        """By address: how many leading tokens of `prompt` the worker has KV of."""
        cached: dict[str, int] = {}
        for layout in {view.layout for view in self.fleet.workers if view.ready}:
            ids = islice(_ids(layout, prompt), BLOCKS_LOOKED_UP_MAX)
            # The last token is always computed: its logits are what is asked for.
            most = len(prompt.token_ids) - 1
            for address, blocks in self._index.leading_blocks(ids).items():
                cached[address] = min(blocks * layout.block_size, most)
        return cached

    def _count(self, decision: Decision, need: Need, cached: dict[str, int], now_s: float) -> None:
        decode = decision.decode
        missing = need.prompt_tokens - decision.cached_tokens
        blocks = -(-(missing + 1) // decode.layout.block_size)
        remote = decision.reason is Reason.REMOTE
        here = Sent(now_s, 0 if remote else missing, blocks)
        self._underway.send(decode.address, here)
        if remote:
            prefill = decision.prefill_candidates[0]
            tokens = need.prompt_tokens - cached.get(prefill, 0)
            self._underway.send(prefill, Sent(now_s, tokens, blocks))

    def _note_farewell(self, process: tuple[str, int]) -> None:
        self._farewells[process] = None
        if len(self._farewells) > FAREWELLS_MAX:
            self._farewells.popitem(last=False)

    def _replace(self, address: str, view: WorkerView | None) -> bool:
        if self._views.get(address) == view:
            return False
        if view is None:
            del self._views[address]
        else:
            self._views[address] = view
        self.fleet = Fleet(tuple(self._views[known] for known in sorted(self._views)))
        return True


def ready_workers(fleet: Fleet) -> dict[str, int]:
    """How many of each role take requests."""
    return {role.value: len(fleet.ready(role)) for role in Role}


def _ids(layout: Layout, prompt: Prompt) -> Iterator[bytes]:
    """Ids of the full blocks of `prompt`, front to back, each computed when asked for."""
    if layout.block_size < 1:
        return
    parent = root_id(
        model_revision=layout.model_revision,
        dtype=layout.dtype,
        block_size=layout.block_size,
        cache_salt=prompt.cache_salt,
    )
    for end in range(layout.block_size, len(prompt.token_ids) + 1, layout.block_size):
        parent = block_id(parent, prompt.token_ids[end - layout.block_size : end])
        yield parent
