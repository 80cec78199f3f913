"""No step of a runner that is ready waits for a compiler: building it has launched every variant of
every kernel that its steps can need."""

from pathlib import Path
from typing import Any

import pytest
from support.triton_programs import told_by

pytestmark = pytest.mark.timeout(600)  # a busy machine takes some minutes

STEPPED_WITHIN_S = 580


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    cache: Path = tmp_path_factory.mktemp("triton")
    return told_by("support.triton_variants", cache, within_s=STEPPED_WITHIN_S)


def test_random_steps_need_no_variant_that_warm_up_did_not_run(cases: list[dict[str, Any]]) -> None:
    assert {one["case"]: one["missing"] for one in cases} == {one["case"]: [] for one in cases}
    assert len(cases) >= 5


def test_warm_up_runs_many_variants_and_steps_most_of_them(cases: list[dict[str, Any]]) -> None:
    """Or the keys would tell nothing."""
    for one in cases:
        assert one["warm"] >= 25, one
        assert one["stepped"] >= one["warm"] / 2, one
