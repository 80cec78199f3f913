"""Laws of turns, whoever asks for however much: shares follow weights, nobody starves, order within
a tenant is that of arrival, and the line forgets nobody."""

from baton.router.tenants.turns import QUANTUM_TOKENS, Turns
from hypothesis import given
from hypothesis import strategies as st

Piece = tuple[int, int]  # of a tenant, its number

costs = st.integers(1, 10 * QUANTUM_TOKENS)
weights = st.integers(1, 100)


@st.composite
def tenants(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """Of each: weight, and what its pieces cost, over and over."""
    one = st.tuples(weights, st.lists(costs, min_size=1, max_size=5))
    return draw(st.lists(one, min_size=2, max_size=6))


class Backlog:
    """A line in which everyone has more than will be served."""

    def __init__(self, asking: list[tuple[int, list[int]]]) -> None:
        self.turns: Turns[Piece] = Turns()
        self.asking = asking
        self.served = [0] * len(asking)  # prompt tokens
        self._joined = [0] * len(asking)
        for tenant in range(len(asking)):
            self.join(tenant)

    def cost(self, piece: Piece) -> int:
        pattern = self.asking[piece[0]][1]
        return pattern[piece[1] % len(pattern)]

    def join(self, tenant: int) -> None:
        for _ in range(2):
            piece = (tenant, self._joined[tenant])
            self._joined[tenant] += 1
            self.turns.join(piece, str(tenant), self.asking[tenant][0], self.cost(piece))

    def serve(self) -> Piece:
        piece = self.turns.next()
        assert piece is not None
        self.served[piece[0]] += self.cost(piece)
        if self.turns.waiting(str(piece[0])) < 2:
            self.join(piece[0])
        return piece


@given(tenants(), st.integers(1, 300))
def test_shares_of_the_backlogged_never_part_from_their_weights(
    asking: list[tuple[int, list[int]]], count: int
) -> None:
    """By more than a quantum and one prompt of each, however long it goes on."""
    backlog = Backlog(asking)
    for _ in range(count):
        backlog.serve()
        shares = [
            (served / weight, max(pattern) / weight)
            for served, (weight, pattern) in zip(backlog.served, asking, strict=True)
        ]
        for share, longest in shares:
            for other, other_longest in shares:
                assert abs(share - other) <= QUANTUM_TOKENS + longest + other_longest


@given(tenants(), st.integers(0, 100), weights, costs)
def test_nobody_starves_and_nobody_has_saved_up(
    asking: list[tuple[int, list[int]]], before: int, weight: int, cost: int
) -> None:
    """Who comes, after however long, is served within the rounds that its prompt takes."""
    backlog = Backlog(asking)
    for _ in range(before):
        backlog.serve()
    backlog.turns.join((-1, 0), "new", weight, cost)
    rounds = -(-cost // (QUANTUM_TOKENS * weight))
    earlier = list(backlog.served)
    while (piece := backlog.turns.next()) != (-1, 0):
        assert piece is not None
        backlog.served[piece[0]] += backlog.cost(piece)
        backlog.join(piece[0])
    for now, then, (other, pattern) in zip(backlog.served, earlier, asking, strict=True):
        assert now - then <= (rounds + 1) * QUANTUM_TOKENS * other + max(pattern)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("join"), st.integers(0, 3), costs),
            st.tuples(st.just("leave"), st.integers(0, 50), st.just(0)),
            st.tuples(st.just("next"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_the_line_has_whoever_joined_and_did_not_leave_in_order_of_arrival(
    events: list[tuple[str, int, int]],
) -> None:
    turns: Turns[Piece] = Turns()
    waiting: list[Piece] = []
    for number, (event, which, cost) in enumerate(events):
        if event == "join":
            piece = (which, number)
            turns.join(piece, str(which), 1 + which, cost)
            waiting.append(piece)
        elif event == "leave" and waiting:
            piece = waiting.pop(which % len(waiting))
            turns.leave(piece, str(piece[0]))
        elif event == "next":
            taken = turns.next()
            assert (taken is None) == (not waiting)
            if taken is not None:
                assert taken == next(piece for piece in waiting if piece[0] == taken[0])
                waiting.remove(taken)
        for tenant in range(4):
            assert turns.waiting(str(tenant)) == sum(piece[0] == tenant for piece in waiting)
