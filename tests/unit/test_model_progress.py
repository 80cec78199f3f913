"""Progress is a bar for people at a terminal and silence for everything else."""

import threading

import pytest
from baton.model.progress import QuietProgress, TerminalProgress, progress_for_stderr


def test_a_pipe_gets_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    progress = progress_for_stderr()  # pytest's stderr is none of a terminal
    assert isinstance(progress, QuietProgress)
    with progress.task("pull") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_on_stderr_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # how rich is told that this is a terminal
    with TerminalProgress().task("pull of a model") as report:
        report(0, None)
        reporter = threading.Thread(target=report, args=(5_000_000, 10_000_000))
        reporter.start()
        reporter.join(5)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "pull of a model" in shown.err
    assert "5.0/10.0 MB" in shown.err
