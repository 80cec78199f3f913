"""The Responses API through the `openai` client, which checks every answer against its types."""

from typing import Any

import openai
from openai.types.responses import Response

from support.router_process import RunningRouter
from support.tool_requests import TOOLS

RESPONSES = "/v1/responses"
QUESTION = "Weather in Paris?"
LOGPROBS: Any = ["message.output_text.logprobs"]
FLAT_TOOLS: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]


def strict_client(router: RunningRouter) -> openai.AsyncOpenAI:
    """Fails where an answer is not of the client's types, which it lets pass by itself."""
    return openai.AsyncOpenAI(
        base_url=f"{router.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    )


async def ask(client: openai.AsyncOpenAI, *, streamed: bool, **fields: Any) -> Response:
    """The response, whole or as the stream's last event has it."""
    asked = {"model": "bytes", "input": QUESTION, **fields}
    if not streamed:
        answer: Response = await client.responses.create(**asked)
        return answer
    events = [event async for event in await client.responses.create(**asked, stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert {event.response.id for event in events[:2]} == {events[-1].response.id}
    last: Response = events[-1].response
    return last
