"""When to try again: exponential backoff with jitter, and a spread of what recurs. Pure.

`luck` is a number from 0 to 1 that the caller draws. Knows no clock.
"""

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 60.0
"""An API server that was away for an hour is asked again within a minute of its return."""

BACKOFF_DOUBLINGS_MAX = 10  # past BACKOFF_MAX_S; it keeps the power small
JITTER = 0.25
"""Either way: five hundred services must not all come back in the same second."""


def backoff_s(failures: int, luck: float) -> float:
    """Before the next try, after so many failures in a row (1 or more)."""
    doublings = min(failures - 1, BACKOFF_DOUBLINGS_MAX)
    return spread_s(min(BACKOFF_FIRST_S * 2**doublings, BACKOFF_MAX_S), luck)


def spread_s(period_s: float, luck: float) -> float:
    """`period_s`, up to JITTER shorter or longer."""
    return period_s * (1 + JITTER * (2 * luck - 1))
