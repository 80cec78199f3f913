"""From "please stop" to "nothing runs any more", within a limit.

Knows the worker's state and whether requests are live; knows no signals and no servers.
"""

import asyncio

from baton.common.logs import get_log
from baton.worker.loop import EngineLoop
from baton.worker.state import WorkerEvent, WorkerLife
from baton.worker.watch import WatchHub


async def drain(life: WorkerLife, hub: WatchHub, engine: EngineLoop, *, timeout_s: float) -> bool:
    """Take no new work, tell the routers, wait for live requests. False: some were left."""
    log = get_log(__name__)
    life.advance(WorkerEvent.DRAIN)
    hub.state_changed()
    log.info("draining", live=engine.live, timeout_s=timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            await engine.wait_idle()
    except TimeoutError:
        log.warning("drain timed out", live=engine.live)
        return False
    log.info("drained")
    return True
