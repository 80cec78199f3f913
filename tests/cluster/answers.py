"""What the model must say, whatever lies between it and an OpenAI client. Knows no cluster."""

from typing import Any

from cluster.release import MODEL
from openai import OpenAI

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]


def whole_answer(client: OpenAI) -> str:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    return answer.choices[0].message.content or ""


def streamed_pieces(client: OpenAI) -> list[str]:
    """The same answer, as it came."""
    stream = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, stream=True
    )
    return [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
