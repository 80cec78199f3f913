"""From "please stop" to "nothing runs any more", within a limit.

Knows the worker's state and whether requests are live; knows no signals and no servers.
"""

import asyncio

from baton.common.errors import Draining
from baton.common.logs import get_log
from baton.worker.loop import EngineLoop
from baton.worker.state import WorkerEvent, WorkerLife
from baton.worker.watch import WatchHub

LINGER_S = 0.5
"""Served at least this long after "draining": routers hear it within milliseconds, and what they
sent in these gets an answer that says so instead of a broken stream."""


async def drain(
    life: WorkerLife,
    hub: WatchHub,
    engine: EngineLoop,
    *,
    timeout_s: float,
    linger_s: float = LINGER_S,
) -> bool:
    """Take no new work, tell the routers, wait for live requests.

    False: some were left at the limit, and ended with Draining: their routers move them.
    """
    log = get_log(__name__)
    life.advance(WorkerEvent.DRAIN)
    hub.state_changed()
    log.info("draining", live=engine.live, timeout_s=timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            await engine.wait_idle()
    except TimeoutError:
        log.warning("drain timed out; requests move", live=engine.live)
        engine.give_up(Draining("this worker is going away"))
        return False
    await asyncio.sleep(linger_s)
    log.info("drained")
    return True
