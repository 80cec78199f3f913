"""Guesses that a grammar makes certain: what must follow, whatever the model would say.

Nearly all of a tool call and most of an object's frame is certain before a token of it is drawn;
one step then computes what would take a step a token. The sampler draws all of it as ever. Pure:
knows constraints; guesses at anything else are another guesser's.
"""

from collections.abc import Sequence

from baton.engine.speculation import Guesser, Speculative

FORCED_MAX = 16
"""Of a request and a step. They are right but for text that may be cut into other tokens as well,
so that more would pay too; but everybody's next token waits for their rows."""


class ForcedGuesser:
    """Implements Guesser."""

    def __init__(self, other: Guesser | None) -> None:
        """`other` guesses where nothing is certain; None: nobody does."""
        self._other = other

    def wish(self, request: Speculative, *, decoding: int) -> int:
        if request.constraint is not None:
            forced = tuple(request.constraint.forced(request.output)[:FORCED_MAX])
            request.guessing.forced = forced
            if forced:
                return len(forced)
        return 0 if self._other is None else self._other.wish(request, decoding=decoding)

    def guess(self, wanted: Sequence[tuple[Speculative, int]]) -> Sequence[tuple[int, ...]]:
        """Each request's wish was heard in this step."""
        certain = [request.guessing.forced[:count] for request, count in wanted]
        if self._other is None:
            return certain
        left = [(request, 0 if request.guessing.forced else count) for request, count in wanted]
        others = self._other.guess(left) if any(count for _, count in left) else [()] * len(left)
        return [forced or other for forced, other in zip(certain, others, strict=True)]

    def learn(self, request: Speculative, guessed: int, accepted: int) -> None:
        """What was certain says nothing of the other's luck."""
        if self._other is not None and not request.guessing.forced:
            self._other.learn(request, guessed, accepted)
