"""The chat page: one file, and a policy that lets nothing but that file run."""

import base64
import hashlib
import re

from baton.router.page import page_response


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = bytes(page_response().body).decode()
    assert not re.search(
        r"https?://|//[a-z]|<link[^>]+href=\"(?!data:)|<(script|img)[^>]+src", html
    )
    assert "innerHTML" not in html  # model output is text, never markup


def test_a_key_is_asked_for_when_one_is_wanted_and_kept_for_the_tab_only() -> None:
    html = bytes(page_response().body).decode()
    assert "401" in html
    assert "sessionStorage" in html
    assert "localStorage" not in html
    assert not re.search(r"fetch\(\"", html)  # every question goes through what adds the key


def test_the_policy_allows_exactly_the_pages_own_script_and_style() -> None:
    answer = page_response()
    html = bytes(answer.body).decode()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
