"""The bodies of requests: of JSON, within limits, from a router that still takes any.

Knows no endpoints and nothing of what bodies say.
"""

import asyncio

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from baton.common.errors import Cancelled, Draining
from baton.common.metrics import Metrics
from baton.router.traffic import Traffic

BODY_LIMIT_S = 30.0
"""Megabytes over a slow line take seconds; a body that takes longer holds a connection for
nothing."""


class Bodies:
    def __init__(self, traffic: Traffic, metrics: Metrics, *, bytes_max: int) -> None:
        self._traffic = traffic
        self._metrics = metrics
        self._bytes_max = bytes_max

    async def of(self, request: Request) -> bytes:
        """Raises Draining, Cancelled, or HTTPException for a body that is not taken."""
        if self._traffic.refusing:
            self._metrics.count("baton_router_refusals_total", reason="draining")
            raise Draining("The server is shutting down.")
        kind = request.headers.get("content-type", "application/json").split(";")[0]
        kind = kind.strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise HTTPException(415, "The content type must be application/json.")
        try:
            async with asyncio.timeout(BODY_LIMIT_S):
                return await self._read(request)
        except TimeoutError:
            late = f"The body did not arrive within {BODY_LIMIT_S:g} s."
            raise HTTPException(408, late) from None
        except ClientDisconnect:
            raise Cancelled("The client went away.") from None

    async def _read(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "0")
        body = bytearray()
        too_large = length.isdecimal() and int(length) > self._bytes_max
        if not too_large:
            async for chunk in request.stream():
                body += chunk
                too_large = len(body) > self._bytes_max
                if too_large:
                    break
        if too_large:
            # uvicorn discards the rest as it comes: a connection closed under a client that still
            # sends would be reset, and the client would never read this answer.
            raise HTTPException(413, f"The body may have at most {self._bytes_max} bytes.")
        return bytes(body)
