"""The chat page at `/`: one file out of the package, nothing loaded from elsewhere.

Knows no models: the page asks `/v1/models` itself.
"""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from fastapi import Response

_INLINE = re.compile(r"<(?P<tag>script|style)>(?P<body>.*?)</(?P=tag)>", re.DOTALL)


def page_response() -> Response:
    html, policy = _page()
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return Response(html, headers=headers, media_type="text/html; charset=utf-8")


@cache
def _page() -> tuple[str, str]:
    """The page and the policy that lets exactly its own script and style run."""
    html = files("baton.router").joinpath("page.html").read_text(encoding="utf-8")
    hashes = {match["tag"]: _hash(match["body"]) for match in _INLINE.finditer(html)}
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'none'; script-src {hashes['script']}; "
        f"style-src {hashes['style']}"
    )
    return html, policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
