"""What can go wrong while a test cluster is made or used. Knows no cluster.

HarnessError
├── ClusterUnavailable   this machine cannot have one, and says what is missing
├── CommandFailed        a program ended with an error
└── LimitReached         something did not happen in its time
"""


class HarnessError(Exception):
    """Every error of the harness."""


class ClusterUnavailable(HarnessError):
    """There is no cluster, and this machine cannot make one: the message says why."""


class CommandFailed(HarnessError):
    """A program ended with a status other than zero; the message carries the end of its output."""


class LimitReached(HarnessError):
    """A wait came to its limit."""
