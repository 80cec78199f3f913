"""What holds an output to a grammar, as the engine sees it: which tokens may come next.

Pure. Knows no grammars: whoever reads them fulfils this Protocol and may keep state, since one
request has one constraint and only the engine's thread asks it.
"""

from collections.abc import Sequence
from typing import Protocol


class Constraint(Protocol):
    def allowed(self, output: Sequence[int]) -> bytes | None:
        """The tokens that may follow a request's output so far, a bit each: the lowest bit of the
        first byte is token 0's, and what has no bit may not follow.

        Outputs may come in any order, such as one with guesses, then one without them. None where
        `output` is none of the grammar's, or going on would take more than a step may cost.
        """
        ...

    def forced(self, output: Sequence[int]) -> Sequence[int]:
        """The tokens that must follow, as text is usually cut into tokens; none where anything is
        left to choose."""
        ...
