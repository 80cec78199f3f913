"""Drives requests through a runner by hand, without an engine: any chunking, any mixture."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from baton.engine.batch import BatchSlice, Runner, SampleRequest, StepBatch
from baton.engine.constraint import Constraint
from baton.engine.params import SamplingParams, TokenSample

GREEDY = SamplingParams(max_tokens=1_000, temperature=0.0)


@dataclass
class Job:
    """One request and how it is to be computed."""

    prompt: list[int]
    table: list[int]
    tokens: int = 1  # how many to generate
    chunk: int = 10_000  # prompt tokens per step
    first_step: int = 0  # the step in which it joins
    params: SamplingParams = GREEDY
    constraint: Constraint | None = None
    computed: int = 0
    samples: list[TokenSample] = field(default_factory=list)

    @property
    def output(self) -> list[int]:
        return [sample.token_id for sample in self.samples]

    def next_slice(self, name: str) -> BatchSlice:
        known = self.prompt + self.output
        end = min(len(known), self.computed + self.chunk)
        sample = None
        if end == len(known):
            sample = SampleRequest(
                self.params, self.prompt, self.output, (), constraint=self.constraint
            )
        return BatchSlice(name, known[self.computed : end], self.computed, self.table, sample)


def shuffled_tables(
    block_count: int, block_size: int, lengths: Sequence[int], seed: int = 0
) -> list[list[int]]:
    """A block table per length (in tokens), blocks drawn at random from the whole pool."""
    pool = list(range(block_count))
    random.Random(seed).shuffle(pool)
    return [[pool.pop() for _ in range(-(-length // block_size))] for length in lengths]


def run_jobs(runner: Runner, jobs: Sequence[Job]) -> list[list[int]]:
    """Steps until every job has its tokens; all jobs that have joined share each step."""
    step = 0
    while any(len(job.samples) < job.tokens for job in jobs):
        active = [j for j in jobs if j.first_step <= step and len(j.samples) < j.tokens]
        slices = tuple(job.next_slice(str(index)) for index, job in enumerate(active))
        results = runner.run(StepBatch(slices)) if slices else []
        for job, piece, result in zip(active, slices, results, strict=True):
            assert result.error is None, result.error
            job.computed += len(piece.token_ids)
            assert len(result.samples) == (piece.sample is not None)
            job.samples += result.samples
        step += 1
    return [job.output for job in jobs]


def everything_scored(vocab_size: int) -> SamplingParams:
    """Greedy, with the log-probability of every token of the vocabulary."""
    return SamplingParams(max_tokens=1_000, temperature=0.0, logprobs=vocab_size)
