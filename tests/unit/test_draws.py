"""Noise, draws and block ids depend on what they should and on nothing else."""

import numpy as np
from baton.engine.identity import block_id, block_ids, root_id
from baton.engine.noise import Noise
from baton_loadtest.draws import uniform
from numpy.typing import NDArray


def gumbel(seed: int, position: int, count: int) -> NDArray[np.float64]:
    """The numbers of token ids 0 .. count - 1."""
    return Noise(seed, position, count).at(np.arange(count))


def test_the_same_pair_draws_the_same_and_neighbours_do_not() -> None:
    assert uniform(7, 3) == uniform(7, 3)
    assert len({uniform(seed, position) for seed in range(50) for position in range(50)}) == 2500


def test_draws_fill_the_unit_interval_evenly() -> None:
    draws = np.array(
        [uniform(seed, position) for seed in (0, 2**64 - 1) for position in range(5000)]
    )
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    # chi-square with 9 degrees of freedom: 27.9 has a chance of one in a thousand
    assert float(((counts - 1000.0) ** 2 / 1000.0).sum()) < 27.9


def test_noise_depends_on_seed_position_and_token_alone() -> None:
    noise = gumbel(2**64 - 1, 12, 1000)
    assert np.array_equal(gumbel(2**64 - 1, 12, 1000), noise)
    assert np.array_equal(gumbel(2**64 - 1, 12, 400), noise[:400])
    for other in (gumbel(2**64 - 2, 12, 1000), gumbel(2**64 - 1, 13, 1000)):
        assert abs(float(np.corrcoef(noise, other)[0, 1])) < 0.15


def test_noise_is_standard_gumbel() -> None:
    noise = np.concatenate([gumbel(seed, 0, 5000) for seed in range(4)])
    assert np.isfinite(noise).all()
    # the standard Gumbel distribution is exp(-exp(-x)); 1.63 / sqrt(n) is its 1 % KS limit
    ordered = np.sort(noise)
    distance = np.abs(np.exp(-np.exp(-ordered)) - np.arange(len(ordered)) / len(ordered)).max()
    assert distance < 1.63 / np.sqrt(len(ordered))


def test_a_block_id_depends_on_everything_before_it() -> None:
    root = root_id(model_revision="m", dtype="float32", block_size=2)
    base = block_ids(root, [1, 2, 3, 4], 2)
    assert base == [block_id(root, [1, 2]), block_id(block_id(root, [1, 2]), [3, 4])]
    assert block_ids(root, [9, 2, 3, 4], 2)[1] != base[1]
    others = [
        root_id(model_revision="n", dtype="float32", block_size=2),
        root_id(model_revision="m", dtype="bfloat16", block_size=2),
        root_id(model_revision="m", dtype="float32", block_size=4),
        root_id(model_revision="m", dtype="float32", block_size=2, cache_salt=b"tenant"),
    ]
    assert len({root, *others}) == 5
