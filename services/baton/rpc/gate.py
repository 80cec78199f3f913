"""What every call passes before its servicer sees it: the caller's name, and the bytes it sends.

One CA may serve many services, so under TLS a certificate of another name is refused. Bytes that
are no message of the call's kind are an invalid argument; gRPC's own answer would be an unknown
error, or, on a stream, none. Takes servicers that write themselves, as all of Baton's do. Knows no
service.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from baton.common.errors import InvalidRequest

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_Serve = Callable[[Any, Any], Awaitable[None]]
_Parse = Callable[[bytes], object]


class Gate(grpc.aio.ServerInterceptor):
    """`peer_name`: the DNS name that a caller's certificate must carry; None: plaintext.

    Ends calls with PERMISSION_DENIED and INVALID_ARGUMENT. On a stream the servicer gets
    InvalidRequest from its iterator instead, and says so itself.
    """

    def __init__(self, peer_name: str | None) -> None:
        self._peer_name = peer_name

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails],"
        " Awaitable[grpc.RpcMethodHandler[RequestT, ResponseT] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[RequestT, ResponseT] | None":
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method: gRPC says so
            return None
        parse = handler.request_deserializer
        assert parse is not None, "protobuf's generated code gives one"
        serve = self._guarded(cast(_Serve, handler.stream_stream or handler.unary_stream))
        new: Any
        if handler.request_streaming:
            new, serve = grpc.stream_stream_rpc_method_handler, _each_parsed(serve, parse)
        else:
            new, serve = grpc.unary_stream_rpc_method_handler, _parsed(serve, parse)
        return cast(
            "grpc.RpcMethodHandler[RequestT, ResponseT]",
            new(serve, None, handler.response_serializer),
        )

    def _guarded(self, serve: _Serve) -> _Serve:
        async def guarded(request: object, context: Any) -> None:
            name = self._peer_name
            if name is not None and name.encode() not in context.auth_context().get("peer_dns", ()):
                await context.abort(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"the caller's certificate is not for {name}",
                )
            await serve(request, context)

        return guarded


def _parsed(serve: _Serve, parse: _Parse) -> _Serve:
    async def parsed(message: bytes, context: Any) -> None:
        try:
            request = parse(message)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is no request of this call")
        await serve(request, context)

    return parsed


def _each_parsed(serve: _Serve, parse: _Parse) -> _Serve:
    async def requests(messages: AsyncIterable[bytes]) -> AsyncIterator[object]:
        async for message in messages:
            try:
                yield parse(message)
            except DecodeError:
                raise InvalidRequest("this is no request of this call") from None

    async def parsed(messages: AsyncIterable[bytes], context: Any) -> None:
        await serve(requests(messages), context)

    return parsed
