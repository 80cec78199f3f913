"""How long work is shown to people: a bar on stderr where that is a terminal, else nothing.

Knows bytes done and bytes in all; knows nothing of what is being fetched.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Report(Protocol):
    """Tells how far one task is. May be called from any thread."""

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None: ...


class Progress(Protocol):
    def task(self, label: str) -> AbstractContextManager[Report]:
        """Show one task while the context lasts."""
        ...


class QuietProgress:
    """Shows nothing: for logs, pipes and containers."""

    @contextmanager
    def task(self, label: str) -> Iterator[Report]:
        yield lambda done_bytes, total_bytes: None


class TerminalProgress:
    """A bar on stderr that disappears when its task ends."""

    @contextmanager
    def task(self, label: str) -> Iterator[Report]:
        # rich takes a tenth of a second to import: only terminals pay for it
        from rich import progress as bars
        from rich.console import Console

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            task_id = shown.add_task(label, total=None)
            yield lambda done_bytes, total_bytes: shown.update(
                task_id, completed=done_bytes, total=total_bytes
            )


def progress_for_stderr() -> Progress:
    return TerminalProgress() if sys.stderr.isatty() else QuietProgress()
