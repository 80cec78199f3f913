"""Non-negative least squares from sufficient statistics, for a handful of unknowns. Pure.

Lawson and Hanson's active set over the normal equations. Knows numbers only.
"""

import math
from collections.abc import Sequence

ROUNDS_MAX = 32
"""Changes of the active set; a handful of unknowns needs about as many, and any state it stops in
is feasible."""

GAIN_MIN = 1e-9
"""An unknown enters the set for at least this gradient, of its scale: less is rounding."""

RIDGE = 1e-10
"""Added to a unit diagonal: columns that no sample tells apart share what they explain."""


def solve_nonnegative(products: Sequence[float], targets: Sequence[float]) -> tuple[float, ...]:
    """x >= 0 that minimises x'Ax - 2b'x. `products`: A [n * n], row by row; `targets`: b [n].

    A is symmetric and positive semidefinite. Unknowns no sample has touched are 0.
    """
    size = len(targets)
    scales = [math.sqrt(max(0.0, products[i * size + i])) for i in range(size)]
    live = [i for i in range(size) if scales[i] > 0 and math.isfinite(scales[i])]
    matrix = [
        [products[i * size + j] / scales[i] / scales[j] + (RIDGE if i == j else 0.0) for j in live]
        for i in live
    ]
    found = _active_set(matrix, [targets[i] / scales[i] for i in live])
    solution = [0.0] * size
    for index, value in zip(live, found, strict=True):
        solution[index] = value / scales[index]
    return tuple(solution)


def _active_set(matrix: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float]:
    """The same for a matrix with a unit diagonal."""
    size = len(targets)
    solution = [0.0] * size
    free: list[int] = []
    floor = GAIN_MIN * max((abs(target) for target in targets), default=0.0)
    for _ in range(ROUNDS_MAX):
        gains = {
            i: targets[i] - math.fsum(matrix[i][j] * solution[j] for j in free)
            for i in range(size)
            if i not in free
        }
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] <= floor:
            break
        free.append(best)
        solution = _feasible(matrix, targets, solution, free)
    return solution


def _feasible(
    matrix: Sequence[Sequence[float]],
    targets: Sequence[float],
    solution: Sequence[float],
    free: list[int],
) -> list[float]:
    """The best solution over `free`, which loses the unknowns that would be negative in it."""
    current = list(solution)
    while free:
        wanted = dict(zip(free, _solve(matrix, targets, free), strict=True))
        falling = [i for i in free if wanted[i] <= 0]
        if not falling:
            return [wanted.get(i, 0.0) for i in range(len(targets))]
        reach = min(
            current[i] / (current[i] - wanted[i]) if current[i] > wanted[i] else 0.0
            for i in falling
        )
        for i in free:
            current[i] = max(0.0, current[i] + reach * (wanted[i] - current[i]))
        leaving = [i for i in falling if current[i] <= GAIN_MIN * abs(wanted[i])]
        for i in leaving or falling[:1]:
            current[i] = 0.0
            free.remove(i)
    return current


def _solve(
    matrix: Sequence[Sequence[float]], targets: Sequence[float], free: Sequence[int]
) -> list[float]:
    """The unknowns of `free`, all others 0: Cholesky's factors, forward and back."""
    size = len(free)
    factor = [[0.0] * size for _ in range(size)]
    for row in range(size):
        for column in range(row + 1):
            inner = math.fsum(factor[row][k] * factor[column][k] for k in range(column))
            rest = matrix[free[row]][free[column]] - inner
            if row == column:
                factor[row][row] = math.sqrt(max(rest, RIDGE))
            else:
                factor[row][column] = rest / factor[column][column]
    values = [0.0] * size
    for row in range(size):
        known = math.fsum(factor[row][k] * values[k] for k in range(row))
        values[row] = (targets[free[row]] - known) / factor[row][row]
    for row in reversed(range(size)):
        known = math.fsum(factor[k][row] * values[k] for k in range(row + 1, size))
        values[row] = (values[row] - known) / factor[row][row]
    return values
