"""Progress that is kept, for a test to look at."""

from collections.abc import Iterator
from contextlib import contextmanager

from baton.model.progress import Report


class HeardProgress:
    """Implements Progress."""

    def __init__(self) -> None:
        self.by_task: dict[str, list[tuple[int, int | None]]] = {}

    @contextmanager
    def task(self, label: str) -> Iterator[Report]:
        heard = self.by_task.setdefault(label, [])
        yield lambda done_bytes, total_bytes: heard.append((done_bytes, total_bytes))
