"""Signals: before service they end the process; in service one asks, a second insists."""

import asyncio
import os
import signal

from baton.common.lifecycle import Shutdown


def shutdown_noting(exits: list[int]) -> Shutdown:
    return Shutdown(exit_at_once=exits.append)


async def test_before_service_the_first_signal_ends_the_process() -> None:
    exits: list[int] = []
    shutdown_noting(exits).request(signal.SIGTERM)
    assert exits == [128 + signal.SIGTERM]


async def test_in_service_the_first_signal_asks_and_the_second_insists() -> None:
    exits: list[int] = []
    shutdown = shutdown_noting(exits)
    shutdown.enter_service()
    assert not shutdown.requested
    shutdown.request(signal.SIGTERM)
    assert shutdown.requested
    assert exits == []
    shutdown.request(signal.SIGINT)
    assert exits == [128 + signal.SIGINT]


async def test_a_real_signal_wakes_the_waiter() -> None:
    shutdown = shutdown_noting([])
    shutdown.install([signal.SIGUSR1])
    shutdown.enter_service()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(5):
            await shutdown.wait()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
