"""The terminal chat against a server that is a function: what is sent, shown and remembered."""

import io
import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from baton.cli import chat
from baton.cli.app import new_app
from baton.cli.chat import show
from baton.cli.conversation import Conversation, Said, first_model, stream_answer
from baton.common.errors import BatonError, InvalidRequest, Unavailable
from typer.testing import CliRunner

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(handler), base_url="http://baton.test")


def sse(*events: object, done: bool = True) -> httpx.Response:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return httpx.Response(200, text="".join(lines) + ("data: [DONE]\n\n" if done else ""))


def delta(content: str | None) -> dict[str, object]:
    return {"choices": [{"delta": {} if content is None else {"content": content}}]}


def refusing(message: str, status: int = 400) -> Handler:
    return lambda _: httpx.Response(status, json={"error": {"message": message, "code": "c"}})


def no_server(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_pieces_come_in_order_and_events_without_text_are_skipped() -> None:
    http = client(lambda _: sse(delta(None), delta("Pa"), delta("ris"), {"choices": []}))
    assert list(stream_answer(http, {})) == [Said("Pa"), Said("ris")]


def test_thoughts_are_told_from_the_answer() -> None:
    thought: dict[str, object] = {"choices": [{"delta": {"reasoning": "Capital?"}}]}
    http = client(lambda _: sse(thought, delta("Paris")))
    assert list(stream_answer(http, {})) == [Said("Capital?", thought=True), Said("Paris")]


def test_thoughts_are_no_part_of_what_a_pipe_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    thought: dict[str, object] = {"choices": [{"delta": {"reasoning": "Capital?"}}]}
    assert show(client(lambda _: sse(thought, delta("Paris"))), {}) == "Paris"
    assert capsys.readouterr().out == "Paris\n"


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        pytest.param(refusing("prompt too long"), "prompt too long", id="refusal"),
        pytest.param(lambda _: httpx.Response(502, text="<html>"), "502", id="not-baton"),
        pytest.param(lambda _: httpx.Response(500, json={"error": "x"}), "500", id="odd-json"),
        pytest.param(no_server, "baton serve", id="no-server"),
        pytest.param(lambda _: sse(delta("Pa"), done=False), "before the answer", id="cut-off"),
        pytest.param(
            lambda _: sse(delta("Pa"), {"error": {"message": "worker lost"}}),
            "worker lost",
            id="error-in-stream",
        ),
    ],
)
def test_every_failure_is_one_clear_error(handler: Handler, says: str) -> None:
    with pytest.raises(BatonError, match=says):
        list(stream_answer(client(handler), {}))


def test_model_is_the_first_one_served() -> None:
    http = client(lambda _: httpx.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}))
    assert first_model(http) == "a"


def test_a_server_without_models_is_said_so() -> None:
    with pytest.raises(Unavailable, match="serves no model"):
        first_model(client(lambda _: httpx.Response(200, json={"data": []})))


def test_conversation_is_sent_whole(capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[list[dict[str, str]]] = []

    def answering(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content)["messages"])
        return sse(delta(f"answer {len(sent)}"))

    conversation = Conversation("m")
    for question in ("one", "two"):
        chat.take_turn(client(answering), conversation, question)
    assert [message["content"] for message in sent[1]] == ["one", "answer 1", "two"]
    assert capsys.readouterr().out == "answer 1\nanswer 2\n"


def test_a_refused_question_is_forgotten_and_the_talk_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    conversation = Conversation("m")
    chat.take_turn(client(refusing("too long")), conversation, "one")
    assert conversation.messages == []
    assert "too long" in capsys.readouterr().err


class InterruptedStream(httpx.SyncByteStream):
    """Ctrl-C arrives while the second piece is awaited."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield f"data: {json.dumps(delta('Once'))}\n\n".encode()
        raise KeyboardInterrupt

    def close(self) -> None:
        self.closed = True


def test_ctrl_c_closes_the_request_and_keeps_what_was_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = InterruptedStream()
    conversation = Conversation("m")
    http = client(lambda _: httpx.Response(200, stream=stream))
    chat.take_turn(http, conversation, "tell me a story")
    assert stream.closed
    assert conversation.messages[-1] == {"role": "assistant", "content": "Once"}
    assert capsys.readouterr().out == "Once [stopped]\n"


def test_reset_forgets_and_end_of_input_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n\n/reset\n"))
    conversation = Conversation("m")
    chat.converse(client(lambda _: sse(delta("hi"))), conversation)
    assert conversation.messages == []
    assert "hi" in capsys.readouterr().out


def test_a_pipe_asks_one_question(capsys: pytest.CaptureFixture[str]) -> None:
    chat.answer_once(client(lambda _: sse(delta("Paris"))), Conversation("m"), "capital?\n")
    assert capsys.readouterr().out == "Paris\n"


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        (["--api-key", "k"], {}),
        ([], {"OPENAI_API_KEY": "k"}),
        (["--api-key", "k"], {"OPENAI_API_KEY": "x"}),
    ],
    ids=["flag", "environment", "both"],
)
def test_a_key_goes_along(
    flags: list[str], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def answering(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "a"}]})
        return sse(delta("Paris"))

    transport, made = httpx.MockTransport(answering), httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: made(transport=transport, **given))
    told = CliRunner().invoke(new_app(), ["chat", *flags], input="capital?\n", env=environ)
    assert told.stdout == "Paris\n"
    assert seen == ["Bearer k", "Bearer k"]


def test_an_empty_pipe_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="no question"):
        chat.answer_once(client(no_server), Conversation("m"), " \n")
