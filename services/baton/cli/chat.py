"""`baton chat`: a conversation in the terminal.

Knows keys and prompts; the talking is in `conversation`. Ctrl-C stops the current answer, Ctrl-D
leaves, /reset forgets. With a pipe on stdin: one question, one answer, done.
"""

import contextlib
import sys
from typing import Annotated

import httpx
import typer

from baton.cli.conversation import Conversation, first_model, stream_answer
from baton.common.errors import BatonError, InvalidRequest


def chat(
    url: Annotated[str, typer.Option(help="Where Baton serves.")] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None, typer.Option(help="Model to talk to; default: the first one served.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="OPENAI_API_KEY", show_default=False, help="Where keys are asked for."),
    ] = None,
) -> None:
    """Talk to a served model. Ctrl-C stops an answer, Ctrl-D leaves, /reset starts over."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(base_url=url, headers=headers) as client:
        conversation = Conversation(model or first_model(client))
        if sys.stdin.isatty():
            converse(client, conversation)
        else:
            answer_once(client, conversation, sys.stdin.read())


def answer_once(client: httpx.Client, conversation: Conversation, question: str) -> None:
    """Write the answer to stdout. Raises BatonError."""
    if not question.strip():
        raise InvalidRequest("no question on stdin")
    show(client, conversation.ask(question.strip()))


def converse(client: httpx.Client, conversation: Conversation) -> None:
    """Ask and answer until Ctrl-D; an error ends the turn, not the conversation."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # importing it gives input() history and line editing
    print(f"{conversation.model}: Ctrl-C stops an answer, Ctrl-D leaves, /reset starts over")
    while True:
        try:
            question = input("> ").strip()
        except KeyboardInterrupt:  # at the prompt: drop the line
            print()
            continue
        except EOFError:
            print()
            return
        if question == "/reset":
            conversation.reset()
        elif question:
            take_turn(client, conversation, question)


def take_turn(client: httpx.Client, conversation: Conversation, question: str) -> None:
    """One question and its answer. What was shown of a stopped answer stays in the conversation."""
    try:
        answer = show(client, conversation.ask(question))
    except BatonError as error:
        print(f"baton: {error.message}", file=sys.stderr)
        answer = ""
    if answer:
        conversation.answer(answer)
    else:
        conversation.take_back()


def show(client: httpx.Client, body: dict[str, object]) -> str:
    """Print the answer as it comes until it ends or Ctrl-C; returns it. Thoughts are shown in a
    terminal only, and are no part of it."""
    shown: list[str] = []
    thinking = False
    with contextlib.closing(stream_answer(client, body)) as pieces:
        try:
            for piece in pieces:
                if piece.thought:
                    thinking = think_aloud(piece.text)
                    continue
                if thinking:
                    print("\n", flush=True)
                    thinking = False
                print(piece.text, end="", flush=True)
                shown.append(piece.text)
        except KeyboardInterrupt:
            print(" [stopped]", end="")
    print()
    return "".join(shown)


def think_aloud(thought: str) -> bool:
    """Whether it was shown: dim, in a terminal."""
    if not sys.stdout.isatty():
        return False
    print(f"\x1b[2m{thought}\x1b[22m", end="", flush=True)
    return True
