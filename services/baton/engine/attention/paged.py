"""Attention over paged keys and values, in torch: gather a sequence's slots, then one fused call.

Knows tensors and the step's plan; knows nothing of requests or of how slots are handed out.
Query heads that share a key head are folded, never expanded: a decode row's group becomes the rows
of one product, a prefill's group reads the same keys through a stride of zero.
"""

import torch
from torch.nn import functional

from baton.engine.attention.plan import Span, View
from baton.engine.kvside import KvSide


def attend(q: torch.Tensor, keys: KvSide, values: KvSide, view: View) -> torch.Tensor:
    """q [T, heads, head_size] -> [T, heads * head_size], float32, rows in the order of q.

    The rows' own keys and values must be in the cache. All is computed in float32, whatever the
    cache holds.
    """
    q = keys.query(q)
    parts = [_attend_decode(q, keys, values, span) for span in view.decode]
    parts += [_attend_prefill(q, keys, values, span) for span in view.prefill]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_decode(q: torch.Tensor, keys: KvSide, values: KvSide, span: Span) -> torch.Tensor:
    """One token of each of B sequences -> [B, heads * head_size]."""
    rows, length = span.slots.shape
    # [B * L, kv_heads, head_size] -> [B, kv_heads, L, head_size]
    k, v = (
        held.view(rows, length, *held.shape[1:]).transpose(1, 2)
        for held in (side.read(span.slots.view(-1)) for side in (keys, values))
    )
    kv_heads, head_size = k.shape[1], k.shape[3]
    # heads that share keys are adjacent: [B, kv_heads, group, head_size]
    grouped = q[span.first : span.end].reshape(rows, kv_heads, -1, head_size)
    return functional.scaled_dot_product_attention(grouped, k, v, attn_mask=span.mask).reshape(
        rows, -1
    )


def _attend_prefill(q: torch.Tensor, keys: KvSide, values: KvSide, span: Span) -> torch.Tensor:
    """T tokens of one sequence -> [T, heads * head_size]."""
    rows = span.end - span.first
    # [L, kv_heads, head_size] -> [kv_heads, 1, L, head_size]
    k, v = (side.read(span.slots).permute(1, 0, 2).unsqueeze(1) for side in (keys, values))
    kv_heads, _, _, head_size = k.shape
    # [T, heads, head_size] -> [kv_heads, group, T, head_size]
    grouped = q[span.first : span.end].reshape(rows, kv_heads, -1, head_size).permute(1, 2, 0, 3)
    k, v = (side.expand(-1, grouped.shape[1], -1, -1) for side in (k, v))
    seen = functional.scaled_dot_product_attention(
        grouped, k, v, attn_mask=span.mask, is_causal=span.causal
    )
    return seen.permute(2, 0, 1, 3).reshape(rows, -1)
