"""Logs: one JSON object per line, fields beside the message, other libraries' chatter left out."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from baton.common.logs import (
    FIELD_LENGTH_MAX,
    TRACEBACK_LENGTH_MAX,
    configure_logs,
    get_log,
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, calls = root.handlers[:], root.level, logging.getLogger("httpx").level
    written = io.StringIO()
    configure_logs("decode", stream=written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("httpx").setLevel(calls)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_the_fields_beside_the_message(stream: io.StringIO) -> None:
    get_log("baton.router").info("request finished", request_id="r1", tokens=3)
    [line] = lines(stream)
    assert line.pop("time")
    assert line == {
        "level": "info",
        "process": "decode",
        "log": "baton.router",
        "message": "request finished",
        "request_id": "r1",
        "tokens": 3,
    }


def test_a_long_field_is_cut(stream: io.StringIO) -> None:
    get_log("baton").warning("refused", prompt="x" * 10_000)
    assert lines(stream)[0]["prompt"] == "x" * FIELD_LENGTH_MAX + "…"


def test_an_error_brings_its_traceback(stream: io.StringIO) -> None:
    try:
        raise ValueError("no such block")
    except ValueError as error:
        get_log("baton").error("step failed", error=error)
    assert str(lines(stream)[0]["traceback"]).endswith("ValueError: no such block")


def test_of_a_long_traceback_the_end_is_kept_and_what_the_error_came_from(
    stream: io.StringIO,
) -> None:
    def deep(frames: int) -> None:
        if frames:
            deep(frames - 1)
        else:
            deeper(frames)

    def deeper(_: int) -> None:
        raise KeyError("a library's own")

    try:
        try:
            deep(20)
        except KeyError as cause:
            raise ValueError("x" * 3_000) from cause
    except ValueError as error:
        get_log("baton").error("step failed", error=error)
    said = str(lines(stream)[0]["traceback"])
    assert "a library's own" in said
    assert len(said) <= TRACEBACK_LENGTH_MAX


def test_calls_that_a_library_tells_of_are_left_out_and_its_warnings_are_not(
    stream: io.StringIO,
) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET ...")
    logging.getLogger("httpx").warning("this matters")
    assert [line["message"] for line in lines(stream)] == ["this matters"]
