"""A run's timeline: intervals of answers, and what is written of them."""

import json
from pathlib import Path

from baton_loadtest.steady import Answer
from baton_loadtest.timeline import Interval, Sample, intervals, write_timeline


def answer(ended_s: float, *, first_s: float | None = None, failure: str | None = None) -> Answer:
    return Answer(0, 100.0, first_s, ended_s, 5, "text", failure)


def test_answers_are_summed_up_where_they_ended() -> None:
    found = intervals(
        [answer(101.0, first_s=100.5), answer(104.0, first_s=101.0), answer(111.0, failure="no")],
        start_s=100.0,
        end_s=115.0,
    )
    assert [(one.at_s, one.answers, one.failures) for one in found[:3]] == [
        (0.0, 2, 0),
        (5.0, 0, 0),
        (10.0, 0, 1),
    ]
    assert found[0].ttft_mean_s == 0.75
    assert found[0].itl_mean_s == (0.5 / 4 + 3.0 / 4) / 2


def test_an_interval_without_answers_has_no_latency() -> None:
    (first, *_) = intervals([], start_s=0.0, end_s=5.0)
    assert first == Interval(0.0, 0, 0, None, None)


def test_the_file_holds_every_sample_and_the_picture_is_there(tmp_path: Path) -> None:
    samples = [
        Sample(0.0, {"prompts": 1}, {"decode": 1}, {"decode": 1}, {"decode": "Steady"}),
        Sample(5.0, {"prompts": 4}, {"decode": 2}, {"decode": 1}, {"decode": "KvUsage"}),
    ]
    write_timeline(samples, [Interval(0.0, 1, 0, 0.2, None)], tmp_path, "a run")
    written = json.loads((tmp_path / "timeline.json").read_text(encoding="utf-8"))
    assert [sample["wanted"] for sample in written["samples"]] == [{"decode": 1}, {"decode": 2}]
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
