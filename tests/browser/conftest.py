"""A real Chromium, and the chat page in it."""

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

WAIT_MS = 15_000  # of a shared machine's browser; nothing here takes a second by itself


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None, "no chromium here: `make test-browser` installs it"
    async with async_playwright() as playwright:
        # As root, as in a container, Chromium starts without its sandbox only.
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """In a window of its own, which nothing was said or kept in. What the page complains of fails
    its test."""
    page = await browser.new_page()
    page.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []
