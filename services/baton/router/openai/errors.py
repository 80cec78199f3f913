"""Errors as OpenAI's error object, over HTTP and inside an event stream.

Knows the statuses and headers; knows no routes. Messages are bounded: none echoes a huge input.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any

import msgspec
from fastapi import Response
from starlette.exceptions import HTTPException

from baton.common.errors import BatonError, SloUnattainable

MESSAGE_CHARACTERS_MAX = 500
PARAM_CHARACTERS_MAX = 100

RETRY_AFTER_S = 1
"""Requests leave a busy router within about a second, and a dead worker is back within a few."""

RETRY_AFTER_MAX_S = 60
"""By then a queue has been worked off, or more workers have been started."""

_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
}


def error_object(error: BatonError) -> dict[str, Any]:
    return _object(error.http_status, error.message, error.param, error.code)


def error_response(error: BatonError) -> Response:
    headers = {"x-should-retry": "true" if error.retryable else "false"}
    if error.retryable:
        headers["retry-after"] = str(_retry_after_s(error))
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return _response(error.http_status, error_object(error), headers)


def _retry_after_s(error: BatonError) -> int:
    """Whole seconds, as the header has them."""
    if not isinstance(error, SloUnattainable):
        return RETRY_AFTER_S
    return min(max(RETRY_AFTER_S, ceil(error.late_s)), RETRY_AFTER_MAX_S)


def http_error_code(error: HTTPException) -> str | None:
    return _HTTP_CODES.get(error.status_code)


def http_error_response(error: HTTPException) -> Response:
    """For what the framework or the body reader refused."""
    body = _object(error.status_code, str(error.detail), None, http_error_code(error))
    return _response(error.status_code, body, dict(error.headers or {}))


def _object(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {
        "error": {
            "message": _bounded(message, MESSAGE_CHARACTERS_MAX),
            "type": _type(status),
            "param": None if param is None else _bounded(param, PARAM_CHARACTERS_MAX),
            "code": code,
        }
    }


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _response(status: int, body: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(
        msgspec.json.encode(body), status, headers=headers, media_type="application/json"
    )
