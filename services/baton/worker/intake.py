"""The last check before the engine: what comes over the wire can be computed at all.

The router has checked clients' input; this guards the engine, whose step all requests share,
against a broken or foreign router. Pure; knows the model's vocabulary, no queue.
"""

from baton.common.errors import InvalidRequest
from baton.handoff.codec import PrefillOrder

REQUEST_ID_CHARS_MAX = 256
CACHE_SALT_BYTES = (0, 16)
LOGPROBS_MAX = 64
"""Likeliest tokens per position: OpenAI allows 20; each costs a row of the frame."""


def require_computable(order: PrefillOrder, *, vocab_size: int) -> None:
    """Raises InvalidRequest that lists every problem."""
    params = order.params
    token_ids = [*order.prompt, *order.output, *params.stop_token_ids]
    token_ids += [token_id for token_id, _ in params.logit_bias]
    wanted = (params.logprobs or 0, params.prompt_logprobs or 0)
    problems = [
        text
        for bad, text in (
            (
                not 0 < len(order.request_id) <= REQUEST_ID_CHARS_MAX,
                f"the request id must have 1 to {REQUEST_ID_CHARS_MAX} characters",
            ),
            (not order.prompt, "the prompt is empty"),
            (
                max(token_ids, default=0) >= vocab_size,
                f"a token id is at or above the vocabulary size, {vocab_size}",
            ),
            (
                len(order.cache_salt) not in CACHE_SALT_BYTES,
                f"the cache salt must have {CACHE_SALT_BYTES[1]} bytes or none",
            ),
            (
                len(order.output) >= params.max_tokens,
                f"{len(order.output)} tokens are out already, max_tokens is {params.max_tokens}",
            ),
            (max(wanted) > LOGPROBS_MAX, f"at most {LOGPROBS_MAX} logprobs per position"),
        )
        if bad
    ]
    if problems:
        raise InvalidRequest("; ".join(problems))
