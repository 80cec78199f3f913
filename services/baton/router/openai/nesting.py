"""How deep a client's JSON is nested. Pure."""

DEPTH_MAX = 100
"""Levels. What reads grammars stops at 128, and Python's stack ends at some hundreds."""


def too_deep(value: object, levels: int = DEPTH_MAX) -> bool:
    """Whether objects and lists stand in each other on more than `levels` levels."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(too_deep(entry, levels - 1) for entry in inner)
