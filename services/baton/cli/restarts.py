"""What to do when a child process dies: restart it, later each time, or give up. Pure.

Knows deaths and seconds; knows no processes and no clock. The supervisor acts on what is decided
here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Limits of patience. The defaults are for a person watching a local stack."""

    # The first restart is felt as immediate, yet a child that dies at once does not spin a core.
    delay_first_s: float = 0.5
    # Longer waits look like a hang to whoever watches.
    delay_max_s: float = 10.0
    # Five deaths are no accident; the delays before them add up to 7.5 s, well inside the window.
    deaths_max: int = 5
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the child again after `delay_s`."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop everything: the child died `deaths` times within `window_s`."""

    deaths: int
    window_s: float


@dataclass(frozen=True, slots=True)
class DeathRecord:
    """When one child died, within the window; older deaths are forgotten, and their backoff with
    them.
    """

    times_s: tuple[float, ...] = ()

    def after(self, now_s: float, policy: RestartPolicy) -> "tuple[DeathRecord, Restart | GiveUp]":
        """One more death at `now_s` (monotonic seconds): the new record and what to do."""
        recent = tuple(time_s for time_s in self.times_s if now_s - time_s < policy.window_s)
        record = DeathRecord((*recent, now_s))
        deaths = len(record.times_s)
        if deaths >= policy.deaths_max:
            return record, GiveUp(deaths, policy.window_s)
        delay_s = min(policy.delay_first_s * 2 ** (deaths - 1), policy.delay_max_s)
        return record, Restart(delay_s)
