"""What `make start` says of a start: how long each phase took, and memory against the need."""

from pathlib import Path

from baton.engine.quant.quantization import Quantization
from baton.model.config import Family, ModelConfig, weight_count
from baton_loadtest.start import (
    KV_CACHE_MIB,
    MIB,
    PHASES,
    Sample,
    Start,
    evict,
    memory_table,
    phase_table,
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
    table = phase_table("t", Start(phases, Sample(5.0, 4.0, MIB)))
    said = rows(table)
    assert [row[1:3] for row in said[: len(PHASES)]] == [["2.00", "1.00"]] * len(PHASES)
    assert said[-3:] == [
        ["ready", "10.00", "5.00", "5"],
        ["import torch alone", "5.00", "4.00", "1"],
        ["ratio", "2.00", "1.25", ""],
    ]


def test_memory_is_weighed_against_weights_and_a_full_cache() -> None:
    assert weight_count(CONFIG) == MIB
    said = rows(memory_table(300 * MIB, 100 * MIB, CONFIG, Quantization.INT8))
    needed = 1 + KV_CACHE_MIB
    assert said[2][1] == "1"
    assert said[-2][1] == f"{(300 + KV_CACHE_MIB) / needed:.2f}"
    assert said[-1][1] == f"{(200 + KV_CACHE_MIB) / needed:.2f}"


def test_evicting_counts_what_is_there_and_survives_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x" * 1_000)
    assert evict([tmp_path / "weights", tmp_path / "gone"]) == 1_000
