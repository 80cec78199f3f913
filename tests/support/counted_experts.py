"""A source of weights that counts how many of the matrices of experts that it gave away are held by
anybody still."""

from weakref import finalize

from baton.engine.weights.parts import ExpertPart, Floats, Part, WeightSource


class CountedExperts:
    """Implements WeightSource."""

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        self._held = 0
        self.held_max = 0

    def fetch(self, part: Part, layer: int | None = None) -> Floats:
        return self._source.fetch(part, layer)

    def fetch_expert(self, part: ExpertPart, layer: int, expert: int) -> Floats:
        matrix = self._source.fetch_expert(part, layer, expert)
        self._held += 1
        self.held_max = max(self.held_max, self._held)
        finalize(matrix, self._let_go)
        return matrix

    def _let_go(self) -> None:
        self._held -= 1
