"""Tables of Markdown, and the words for what there is no figure of. Pure."""

from collections.abc import Sequence

NOT_MEASURED = "not measured"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """The first `words` columns hold words, all others figures."""
    rule = "|---" * words + "|---:" * (len(head) - words) + "|"
    return "\n".join((_line(head), rule, *map(_line, rows)))


def unmeasured(cells: int) -> tuple[str, ...]:
    return (NOT_MEASURED,) * cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
