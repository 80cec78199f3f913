"""Prefill and decode follow the load apart, to zero and back; the run is kept as a timeline.

The pictures and JSON lie in loadtest/results/local/scaling/ afterwards.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from baton.common.clock import SystemClock
from baton_loadtest.steady import Question, SteadyLoad
from baton_loadtest.timeline import Sample, intervals, write_timeline
from cluster.harness.layout import REPOSITORY
from cluster.release import MODEL, Release, meanwhile

RESULTS = REPOSITORY / "loadtest" / "results" / "local" / "scaling"
SAMPLE_S = 2.0
PHASE_LIMIT_S = 240.0
ROLES = ("prefill", "decode")

PARAGRAPH = "The quick brown fox jumps over the lazy dog near the bank of the river. "
PROMPTS = tuple(Question(f"{index}. " + PARAGRAPH * 24, 2) for index in range(10_000))
"""Prompt-heavy: some 400 tokens in, none of them shared, next to nothing out. More than any machine
computes in a phase: asked again they would come from caches, and nothing would be left to scale."""

STORIES = tuple(
    Question(f"Tell me a long story about the number {index}.", 160) for index in range(8)
)
"""Output-heavy."""

SIGNALS_WINDOW_S = 60.0
"""Signals tell of the last minute: until then prefill is wanted for prompts long answered."""

STORY_STREAMS = 24
CALIBRATION_S = 10.0
CALIBRATION_SHARE = 0.6
"""Of the time between tokens that one decode worker manages: it clearly misses this promise."""

pytestmark = pytest.mark.timeout(1500)


class Recorder:
    """Samples the service while the load goes on."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self.started_s = time.monotonic()
        self.streams: dict[str, int] = {}
        self.samples: list[Sample] = []
        self.loads: list[SteadyLoad] = []
        self._sampled = asyncio.Condition()

    @asynccontextmanager
    async def load(
        self, kind: str, streams: int, questions: tuple[Question, ...]
    ) -> AsyncIterator[SteadyLoad]:
        """A load that is sampled as `kind`; asks without having learned the answers."""
        load = SteadyLoad(self._release.url(), MODEL, questions, clock=SystemClock())
        self.loads.append(load)
        self.streams[kind] = streams
        async with load.running(streams):
            yield load
            self.streams[kind] = 0
        await load.aclose()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            service = await meanwhile(self._release.service)
            self.samples.append(self._sample(service.get("status", {})))
            async with self._sampled:
                self._sampled.notify_all()
            await asyncio.sleep(SAMPLE_S)

    async def until_wanted(self, limit_s: float = PHASE_LIMIT_S, **wanted: range) -> None:
        """Returns when each role has as many pods wanted and ready as its range says."""

        def there() -> bool:
            if not self.samples:
                return False
            now = self.samples[-1]
            return all(
                now.wanted.get(role) in span and now.ready.get(role) in span
                for role, span in wanted.items()
            )

        async with asyncio.timeout(limit_s):
            async with self._sampled:
                await self._sampled.wait_for(there)

    def _sample(self, status: Mapping[str, Any]) -> Sample:
        roles = {role: status.get(role, {}) for role in ROLES}
        return Sample(
            time.monotonic() - self.started_s,
            dict(self.streams),
            {role: found.get("desired", 0) for role, found in roles.items()},
            {role: found.get("ready", 0) for role, found in roles.items()},
            {one["role"]: one["reason"] for one in reversed(status.get("scalingHistory", []))},
        )

    def most_wanted(self, role: str, since_s: float) -> int:
        return max(one.wanted[role] for one in self.samples if one.at_s >= since_s)

    def keep(self, title: str) -> None:
        answers = [answer for load in self.loads for answer in load.answers]
        end_s = time.monotonic()
        found = intervals(answers, start_s=self.started_s, end_s=end_s)
        write_timeline(self.samples, found, RESULTS, title)


async def calibrated_itl_ms(release: Release) -> int:
    """What one decode worker does not keep up under the stories: a promise that means the same on a
    fast machine and on a slow one."""
    load = SteadyLoad(release.url(), MODEL, STORIES, clock=SystemClock())
    async with load.running(STORY_STREAMS):
        await asyncio.sleep(CALIBRATION_S)
    await load.aclose()
    gaps_s = sorted(answer.itl_s for answer in load.answers if answer.itl_s is not None)
    return max(1, round(gaps_s[len(gaps_s) // 2] * 1000 * CALIBRATION_SHARE))


async def test_each_role_follows_its_own_load(release: Release) -> None:
    release.patch({"prefill": {"replicas": 1}, "decode": {"replicas": 1}})
    release.await_whole()
    itl_ms = await calibrated_itl_ms(release)
    zero_to = {"minReplicas": 0, "idleAfter": "20s"}
    release.patch(
        {
            "slo": {"ttft": "1500ms", "itl": f"{itl_ms}ms"},
            "prefill": {"replicas": None, "scaling": {**zero_to, "maxReplicas": 2}},
            "decode": {"replicas": None, "scaling": {**zero_to, "maxReplicas": 3}},
        }
    )
    release.await_rollout("router")
    recorder = Recorder(release)
    watching = asyncio.create_task(recorder.run())
    zero = {"prefill": range(1), "decode": range(1)}
    try:
        await recorder.until_wanted(**zero)  # nobody asks
        async with recorder.load("prompts", 6, PROMPTS):
            await recorder.until_wanted(prefill=range(2, 3), decode=range(1, 4))
        await recorder.until_wanted(**zero)
        await asyncio.sleep(SIGNALS_WINDOW_S)
        since_s = recorder.samples[-1].at_s
        async with recorder.load("stories", STORY_STREAMS, STORIES):
            await recorder.until_wanted(prefill=range(1, 2), decode=range(2, 4))
        assert recorder.most_wanted("prefill", since_s) == 1
        await recorder.until_wanted(**zero)
    finally:
        watching.cancel()
        recorder.keep("SmolLM2, two nodes that share two cores: prompts, then stories, then nobody")
    failures = [answer.failure for load in recorder.loads for answer in load.failures]
    assert failures == []
