"""How far a compute scheme's answers are from float32's: perplexity, divergence, agreement. Pure.

Knows sums over scored positions, not how they were computed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True, slots=True)
class Scored:
    """Sums over some positions of a text, the reference and the scheme side by side."""

    positions: int
    reference_nats: float  # negative log-likelihood of the tokens that follow
    scheme_nats: float
    divergence_nats: float  # Kullback-Leibler, of the scheme from the reference
    agreed: int  # positions whose likeliest token is the same


@dataclass(frozen=True, slots=True)
class Quality:
    """One scheme's row of the table."""

    scheme: str
    perplexity: float
    perplexity_ratio: float  # to float32's
    divergence_mean_nats: float
    agreement: float  # share of positions with the same likeliest token, the text given
    common_prefix_mean: float  # tokens of a free greedy continuation that equal float32's
    continuation_tokens: int  # the most that could be common


def total(parts: Iterable[Scored]) -> Scored:
    """The sums of all parts, at least one."""
    kept = tuple(parts)
    return Scored(
        positions=sum(part.positions for part in kept),
        reference_nats=math.fsum(part.reference_nats for part in kept),
        scheme_nats=math.fsum(part.scheme_nats for part in kept),
        divergence_nats=math.fsum(part.divergence_nats for part in kept),
        agreed=sum(part.agreed for part in kept),
    )


def judge(
    scheme: str,
    scored: Scored,
    reference_continuations: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
) -> Quality:
    """`scored` has at least one position; continuations are paired, at least one, of one length."""
    prefixes = [
        common_prefix(reference, own)
        for reference, own in zip(reference_continuations, continuations, strict=True)
    ]
    return Quality(
        scheme=scheme,
        perplexity=math.exp(scored.scheme_nats / scored.positions),
        perplexity_ratio=math.exp((scored.scheme_nats - scored.reference_nats) / scored.positions),
        divergence_mean_nats=scored.divergence_nats / scored.positions,
        agreement=scored.agreed / scored.positions,
        common_prefix_mean=math.fsum(prefixes) / len(prefixes),
        continuation_tokens=len(reference_continuations[0]),
    )


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens are equal before the first difference."""
    pairs = zip(left, right, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
