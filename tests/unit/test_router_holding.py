"""Requests that wait: asked for in order, one after another, until an answer or their limit."""

import asyncio

import pytest
from baton.common.errors import PromptTooLong
from baton.router.holding import Holding


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_places_are_given_in_order_of_arrival() -> None:
    counts: list[int] = []
    holding: Holding[str] = Holding(counts.append)
    places = ["first place"]
    asked = [
        asyncio.create_task(holding.wait(lambda: places.pop() if places else None, 60))
        for _ in range(2)
    ]
    await settled()
    holding.serve()
    assert await asked[0] == "first place"
    assert len(holding) == 1
    places.append("another")
    holding.serve()
    assert await asked[1] == "another"
    assert counts == [1, 2, 1, 0]


async def test_who_cannot_use_a_place_does_not_keep_others_from_it() -> None:
    holding: Holding[str] = Holding(lambda _: None)
    picky = asyncio.create_task(holding.wait(lambda: None, 60))
    easy = asyncio.create_task(holding.wait(lambda: "served", 60))
    await settled()
    holding.serve()
    assert await easy == "served"
    assert not picky.done()
    picky.cancel()
    await settled()
    assert len(holding) == 0


async def test_the_wait_has_a_limit() -> None:
    holding: Holding[str] = Holding(lambda _: None)
    assert await holding.wait(lambda: "never asked", 0.001) is None
    assert len(holding) == 0


async def test_what_asking_raises_ends_that_wait_only() -> None:
    holding: Holding[str] = Holding(lambda _: None)

    def hopeless() -> str | None:
        raise PromptTooLong("too long")

    lost = asyncio.create_task(holding.wait(hopeless, 60))
    fine = asyncio.create_task(holding.wait(lambda: "served", 60))
    await settled()
    holding.serve()
    with pytest.raises(PromptTooLong):
        await lost
    assert await fine == "served"
