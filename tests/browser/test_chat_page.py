"""The chat page as a person meets it: a real Chromium, the real router, a fake worker behind it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, Request, expect
from support.fake_decode import FakeDecode, says
from support.router_process import RunningRouter, running_router
from support.tenant_files import KEYS, entry, write_register
from support.tool_models import THOUGHTFUL, tool_model

MARKUP = '<img src=x onerror="document.title=1"> & <b>bold</b>'


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode(context_length_max=8_000) as worker:
        yield worker


@pytest.fixture
async def router(worker: FakeDecode) -> AsyncIterator[RunningRouter]:
    async with running_router([worker], model=tool_model(THOUGHTFUL)) as router:
        yield router


async def say(page: Page, text: str) -> None:
    await page.get_by_label("Message").fill(text)
    await page.get_by_role("button", name="Send").click()


def prompt_of(worker: FakeDecode) -> str:
    return bytes(worker.submits[-1].prompt_token_ids).decode()


async def test_a_question_is_answered_and_the_next_one_knows_of_it(
    page: Page, router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.reply = says("Four.")
    await page.goto(router.url)
    await expect(page.locator("#model")).to_have_text("bytes")
    await say(page, "2 + 2?")
    await expect(page.locator(".turn")).to_have_text(["2 + 2?", "Four."])
    await expect(page.locator(".note")).to_contain_text("first token")
    await page.get_by_label("Message").fill("Sure?")
    await page.get_by_label("Message").press("Enter")
    await expect(page.locator(".turn")).to_have_count(4)
    await expect(page.locator(".note")).to_have_count(2)
    assert prompt_of(worker) == "user: 2 + 2?\nassistant: Four.\nuser: Sure?\nassistant: "
    await page.get_by_role("button", name="New conversation").click()
    await expect(page.locator(".turn")).to_have_count(0)
    await say(page, "Hi.")
    await expect(page.locator(".note")).to_have_count(1)
    assert prompt_of(worker) == "user: Hi.\nassistant: "


async def test_what_a_model_says_is_text_and_no_page(
    page: Page, router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.reply = says(MARKUP)
    await page.goto(router.url)
    await say(page, MARKUP)
    await expect(page.locator(".note")).to_be_visible()
    await expect(page.locator(".turn")).to_have_text([MARKUP, MARKUP])
    assert await page.title() == "Baton"


async def test_nothing_is_asked_of_any_other_server(
    page: Page, router: RunningRouter, worker: FakeDecode
) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    await page.goto(router.url)
    await say(page, "Hi.")
    await expect(page.locator(".note")).to_be_visible()
    assert {url for url in asked if not url.startswith((router.url, "data:"))} == set()


async def test_thoughts_are_shown_apart_and_not_sent_back(
    page: Page, router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.reply = says("<think>\nTwo and two.\n</think>\n\nFour.")
    worker.script.hold_after = len("<think>\nTwo and two.")
    await page.goto(router.url)
    await say(page, "2 + 2?")
    thoughts = page.locator("details.thought")
    await expect(thoughts).to_have_attribute("open", "")
    await expect(thoughts).to_have_text("ThoughtsTwo and two.")
    worker.script.released.set()
    await expect(page.locator(".turn")).to_have_text(["2 + 2?", "Four."])
    await expect(thoughts).not_to_have_attribute("open", "")
    await expect(page.locator(".note")).to_be_visible()
    await say(page, "Sure?")
    await expect(page.locator(".note")).to_have_count(2)
    assert "assistant: Four.\n" in prompt_of(worker)


async def test_an_answer_can_be_stopped_and_what_was_said_of_it_stays(
    page: Page, router: RunningRouter, worker: FakeDecode
) -> None:
    worker.script.reply = says("Four, said the model.")
    worker.script.hold_after = len("Four")
    await page.goto(router.url)
    await say(page, "2 + 2?")
    await expect(page.locator(".turn")).to_have_text(["2 + 2?", "Four"])
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await worker.until(lambda w: len(w.cancels) == 1)
    worker.script.hold_after = None
    await say(page, "And?")
    await expect(page.locator(".note")).to_be_visible()
    assert "assistant: Four\nuser: And?\n" in prompt_of(worker)


async def test_an_error_is_told_in_the_servers_words(
    page: Page, router: RunningRouter, worker: FakeDecode
) -> None:
    await page.goto(router.url)
    await say(page, "x" * 9_000)
    await expect(page.locator(".error")).to_contain_text("maximum context length is 8000 tokens")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_a_key_is_asked_for_until_one_is_right(
    page: Page, worker: FakeDecode, tmp_path: Path
) -> None:
    keys = write_register(tmp_path / "keys.json", entry("red"))
    async with running_router([worker], api_keys_file=keys) as router:
        await page.goto(router.url)
        key, use = page.get_by_label("API key"), page.get_by_role("button", name="Use this key")
        await expect(key).to_be_visible()
        await key.fill("sk-baton-wrong")
        await use.click()
        await expect(key).to_be_visible()
        await expect(page.locator("#model")).to_have_text("…")
        await key.fill(KEYS["red"])
        await use.click()
        await expect(page.locator("#model")).to_have_text("bytes")
        await expect(key).not_to_be_visible()
        await say(page, "Hi.")
        await expect(page.locator(".note")).to_be_visible()
        # The tab keeps it, and another one does not know of it.
        await page.reload()
        await expect(page.locator("#model")).to_have_text("bytes")
        assert page.context.browser is not None
        stranger = await page.context.browser.new_page()
        await stranger.goto(router.url)
        await expect(stranger.get_by_label("API key")).to_be_visible()
