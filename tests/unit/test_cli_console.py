"""What a person sees of the children's output."""

import io
import json

import pytest
from baton.cli.console import TerminalReport, readable


def log_line(level: str, **fields: object) -> str:
    return json.dumps({"time": "t", "level": level, "process": "p", "log": "l"} | fields)


@pytest.mark.parametrize("level", ["debug", "info"])
def test_everyday_log_lines_are_not_shown(level: str) -> None:
    assert readable(log_line(level, message="step")) is None


def test_warnings_are_shown_in_words_with_their_fields() -> None:
    line = log_line("warning", message="prefill lost", worker="127.0.0.1:7001", attempt=2)
    assert readable(line) == "warning: prefill lost worker=127.0.0.1:7001 attempt=2"


def test_a_traceback_keeps_its_lines() -> None:
    shown = readable(log_line("error", message="crash", traceback="a\nb"))
    assert shown == "error: crash\na\nb"


@pytest.mark.parametrize("line", ["Segmentation fault", "{", "[1, 2]", '{"a": 1}', ""])
def test_what_is_no_log_line_is_shown_as_it_is(line: str) -> None:
    assert readable(line) == line


@pytest.mark.parametrize(("verbose", "lines"), [(True, 1), (False, 0)])
def test_verbose_shows_everything(verbose: bool, lines: int) -> None:
    stream = io.StringIO()
    TerminalReport(stream, verbose=verbose).output("decode-0", log_line("info", message="step"))
    assert len(stream.getvalue().splitlines()) == lines


def test_output_says_whose_it_is() -> None:
    stream = io.StringIO()
    report = TerminalReport(stream, verbose=False)
    report.output("decode-0", "oops")
    report.event("decode-0 died")
    assert stream.getvalue().splitlines() == ["[decode-0] oops", "baton: decode-0 died"]
