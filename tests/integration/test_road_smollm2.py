"""SmolLM2, token for token what transformers says, on every path of the road and in every chunking.

Tolerance: log-probabilities within 2e-3 of transformers', whose sums run in another order through
thirty layers.
"""

import pytest
from baton.engine.params import SamplingParams
from baton.model.tokenizer import load_tokenizer
from support.road import open_road
from support.road_paths import ContinuedTexts, Texts, continued, walk_every_path
from support.smollm2 import smollm2_model
from support.transformers_oracle import Oracle

TOLERANCE = 2e-3
COUNT = 8
PARAMS = SamplingParams(max_tokens=COUNT, temperature=0.0, ignore_eos=True, logprobs=5)
STORY = (
    "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday. "
    "The months of the year are January, February, March, April, May, June, July, August, "
    "September, October, November, December. The numbers are one, two, three, four, five, six, "
    "seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen, sixteen, seventeen. "
)
LETTERS = (
    "The letters are A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, " * 3
)

pytestmark = [pytest.mark.smollm2, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def expected() -> ContinuedTexts:
    model = smollm2_model()
    tokenizer = load_tokenizer(model)
    story = tokenizer.encode(STORY * 2, add_special=False, parse_special=False)
    letters = tokenizer.encode(LETTERS, add_special=False, parse_special=False)
    second = story[:32] + letters[:30]
    texts = Texts(story[:51], second, letters[:48], second + letters[30:70])
    return continued(Oracle(model), texts, COUNT, TOLERANCE)


@pytest.mark.parametrize("chunk", [16, 13, 512], ids=["one-block", "odd", "whole"])
async def test_every_path_says_what_transformers_says(chunk: int, expected: ContinuedTexts) -> None:
    async with open_road(smollm2_model(), prefill=1, decode=3, step_tokens_max=chunk) as road:
        await walk_every_path(road, expected, params=PARAMS)
