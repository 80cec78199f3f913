"""A chat as the OpenAI endpoint wants it, and the client side of its event stream.

Knows messages and server-sent events; knows no terminal.
"""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import httpx

from baton.common.errors import BatonError, Unavailable

ANSWER_TIMEOUT = httpx.Timeout(10.0, read=120.0)
"""Seconds. Reading waits for the first token of a long prompt on a busy CPU; connecting is local.
"""

SAMPLING = {"temperature": 0.2, "top_p": 0.9}
"""What SmolLM2's makers advise; at OpenAI's default of 1 a model of its size rambles."""


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of an answer."""

    text: str
    thought: bool = False  # what the model tells itself before it answers


@dataclass(slots=True)
class Conversation:
    """Messages so far, oldest first. Grows by one question and one answer per turn."""

    model: str
    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, question: str) -> dict[str, object]:
        """Add the question; returns the request body that asks for a streamed answer."""
        self.messages.append({"role": "user", "content": question})
        return {"model": self.model, "messages": self.messages, "stream": True, **SAMPLING}

    def answer(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def take_back(self) -> None:
        """Forget a question that got no answer, so that it can be asked again."""
        self.messages.pop()

    def reset(self) -> None:
        self.messages.clear()


def first_model(client: httpx.Client) -> str:
    """The first model the server lists. Raises BatonError when there is no server or no model."""
    try:
        response = client.get("/v1/models", timeout=ANSWER_TIMEOUT)
    except httpx.TransportError as error:
        raise _no_server(client, error) from None
    if response.is_error:
        raise _refusal(response)
    models = [entry["id"] for entry in response.json()["data"]]
    if not models:
        raise Unavailable(f"the server at {client.base_url} serves no model")
    return str(models[0])


def stream_answer(client: httpx.Client, body: dict[str, object]) -> Generator[Said, None, None]:
    """Pieces of the answer as they come.

    Closing the iterator early aborts the request on the server. Raises BatonError: no server, a
    refusal, an error or a break in the middle of the stream.
    """
    try:
        with client.stream(
            "POST", "/v1/chat/completions", json=body, timeout=ANSWER_TIMEOUT
        ) as response:
            if response.is_error:
                response.read()
                raise _refusal(response)
            yield from _pieces(response.iter_lines())
    except httpx.ConnectError as error:
        raise _no_server(client, error) from None
    except httpx.TransportError as error:
        raise Unavailable(f"the connection broke: {type(error).__name__}") from None


def _pieces(lines: Iterator[str]) -> Iterator[Said]:
    """What is said in each `data:` event up to [DONE]."""
    for line in lines:
        if not line.startswith("data:"):
            continue
        payload = line.removeprefix("data:").strip()
        if payload == "[DONE]":
            return
        event = json.loads(payload)
        if "error" in event:
            raise _error_from(event["error"])
        for choice in event["choices"]:
            if thought := choice["delta"].get("reasoning"):
                yield Said(thought, thought=True)
            if content := choice["delta"].get("content"):
                yield Said(content)
    raise Unavailable("the stream ended before the answer was complete")


def _refusal(response: httpx.Response) -> BatonError:
    try:
        return _error_from(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the server answered {response.status_code}, not as Baton would")


def _error_from(error: dict[str, object]) -> BatonError:
    return BatonError(str(error["message"]))


def _no_server(client: httpx.Client, error: Exception) -> Unavailable:
    return Unavailable(
        f"no server at {client.base_url} ({type(error).__name__}); start one with: baton serve"
    )
