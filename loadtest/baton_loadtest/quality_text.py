"""The text that schemes are judged on, and the windows of it that are scored.

English prose with code in it, which every install has: the help topics of the Python that runs.
They differ a little between Python versions, so a result names its version. Pure but for that.
"""

from collections.abc import Sequence
from pydoc_data.topics import topics

SOURCE = "the standard library's pydoc_data.topics"


def help_topics() -> str:
    """All topics, in alphabetical order."""
    return "\n\n".join(topics[name] for name in sorted(topics))


def spread_windows(
    token_ids: Sequence[int], *, tokens: int, window_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """Whole windows, evenly spread over the text: as many as `tokens` hold, at least one.

    `token_ids` holds at least one window; windows overlap only when the text is shorter than asked.
    """
    count = max(1, tokens // window_tokens)
    last = len(token_ids) - window_tokens
    starts = [last * index // max(1, count - 1) for index in range(count)]
    return tuple(tuple(token_ids[start : start + window_tokens]) for start in starts)
