"""What `make start` says of a start: how long each phase took, and memory against the need."""

from dataclasses import replace
from pathlib import Path

from baton.engine.quant.quantization import Quantization
from baton.model.config import Family, ModelConfig, weight_count
from baton_loadtest.start import (
    KV_CACHE_MIB,
    MEMORY_RATIO_MAX,
    MIB,
    PHASES,
    READY_S_MAX,
    Sample,
    Start,
    evict,
    memory_table,
    phase_table,
    verdict_table,
    weight_bytes,
)
from rich.console import Console
from rich.table import Table

CONFIG = ModelConfig(
    family=Family.LLAMA,
    vocab_size=MIB // 64,
    hidden_size=64,
    intermediate_size=64,
    layers=0,
    heads=1,
    kv_heads=1,
    head_size=64,
    context_length=128,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
)
"""One MiB of weights, all of them in the head."""


def rows(table: Table) -> list[list[str]]:
    console = Console(width=200, record=True)
    with console.capture() as shown:
        console.print(table)
    lines = [line for line in shown.get().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_phases_are_told_by_what_each_took_and_the_whole_by_its_sum() -> None:
    phases = tuple(
        (name, Sample(2.0 * number, 1.0 * number, number * MIB))
        for number, name in enumerate(PHASES, 1)
    )
    said = rows(phase_table("t", Start("decode", phases, MIB)))
    assert [row[1:3] for row in said[: len(PHASES)]] == [["2.00", "1.00"]] * len(PHASES)
    assert said[-1] == ["ready", "10.00", "5.00", "5"]


def started(role: str, ready_s: float, rss_bytes: int) -> Start:
    return Start(role, (("ready", Sample(ready_s, 1.0, rss_bytes)),), 2 * rss_bytes)


def test_memory_is_weighed_against_weights_and_a_full_cache() -> None:
    assert weight_count(CONFIG) == MIB
    said = rows(memory_table(started("decode", 1.0, 100 * MIB), CONFIG, Quantization.INT8))
    assert [row[1] for row in said] == ["100", "200", "1", str(KV_CACHE_MIB), "356"]


def test_weights_count_as_they_are_held_the_head_in_its_own_scheme() -> None:
    with_layer = replace(CONFIG, layers=1)
    layer = weight_count(with_layer) - weight_count(CONFIG)
    for quantization, of_layer, of_head in (
        (Quantization.NONE, 4.0, 4.0),
        (Quantization.INT8, 1.0, 1.0),
        (Quantization.INT4, 0.625, 1.0),
    ):
        expected = layer * of_layer + MIB * of_head
        assert weight_bytes(with_layer, quantization) == expected


def test_the_verdict_takes_both_limits() -> None:
    needed = 1 + KV_CACHE_MIB
    most = int((MEMORY_RATIO_MAX * needed - KV_CACHE_MIB) * MIB)
    starts = [
        started("slow", READY_S_MAX + 0.01, most),
        started("large", READY_S_MAX, most + MIB),
        started("good", READY_S_MAX, most),
    ]
    said = rows(verdict_table(starts, CONFIG, Quantization.INT8))
    assert said[2][1:] == ["1.50", "1.50", "1.50", f"<= {MEMORY_RATIO_MAX}"]
    assert said[-1][1:4] == ["NO", "NO", "yes"]


def test_evicting_counts_what_is_there_and_survives_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x" * 1_000)
    assert evict([tmp_path / "weights", tmp_path / "gone"]) == 1_000
