"""Updates wait for their reader in order, within the bound of the request."""

import asyncio

import pytest
from baton.common.errors import EngineFailure, Unavailable
from baton.router.inbox import Inbox
from baton.router.work import Update
from support.fake_fleet import tokens


async def test_updates_arrive_in_order_and_before_the_error() -> None:
    inbox = Inbox(tokens_max=4)
    inbox.put(tokens(1))
    inbox.put(tokens(2))
    inbox.fail(Unavailable("gone"))
    assert [await inbox.get(), await inbox.get()] == [tokens(1), tokens(2)]
    with pytest.raises(Unavailable):
        await inbox.get()


async def test_a_waiting_reader_wakes() -> None:
    inbox = Inbox(tokens_max=4)
    reading = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put(tokens(1))
    assert await reading == tokens(1)
    failing = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.fail(Unavailable("gone"))
    with pytest.raises(Unavailable):
        await failing


async def test_a_reader_that_gave_up_loses_nothing() -> None:
    inbox = Inbox(tokens_max=4)
    reading = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    reading.cancel()
    inbox.put(tokens(1))
    assert await inbox.get() == tokens(1)


@pytest.mark.parametrize(
    "updates",
    [
        pytest.param([tokens(1, 2), tokens(3)], id="more-tokens-than-asked"),
        pytest.param([Update()] * 9, id="endless-nothing"),
    ],
)
async def test_a_worker_that_says_too_much_fails_the_request(updates: list[Update]) -> None:
    inbox = Inbox(tokens_max=2)
    for update in updates:
        inbox.put(update)
    for _ in updates[1:]:
        await inbox.get()
    with pytest.raises(EngineFailure):
        await inbox.get()
