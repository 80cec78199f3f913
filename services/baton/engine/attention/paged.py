"""Attention over paged keys and values, in torch: gather a sequence's slots, then one fused call.

Knows tensors and the step's plan; knows nothing of requests or of how slots are handed out.
Query heads that share a key head are folded, never expanded: a decode row's group becomes the rows
of one product, a prefill's group reads the same keys through a stride of zero.
"""

import torch
from torch.nn import functional

from baton.engine.attention.plan import Span, View


def write_kv(
    keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> None:
    """Put k and v [T, kv_heads, head_size] at slots [T] of keys and values [slots, ...]."""
    keys.index_copy_(0, slots, k.to(keys.dtype))
    values.index_copy_(0, slots, v.to(values.dtype))


def attend(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, view: View) -> torch.Tensor:
    """q [T, heads, head_size], cache [slots, kv_heads, head_size] -> [T, heads * head_size].

    The rows' own keys and values must be in the cache. Output as float32, rows in the order of q.
    """
    q = q.to(keys.dtype)
    parts = [_attend_decode(q, keys, values, span) for span in view.decode]
    parts += [_attend_prefill(q, keys, values, span) for span in view.prefill]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).float()


def _attend_decode(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, span: Span
) -> torch.Tensor:
    """One token of each of B sequences -> [B, heads * head_size]."""
    rows, length = span.slots.shape
    kv_heads, head_size = keys.shape[1:]
    slots = span.slots.view(-1)
    # [B, L, kv_heads, head_size] -> [B, kv_heads, L, head_size]
    k = keys.index_select(0, slots).view(rows, length, kv_heads, head_size).transpose(1, 2)
    v = values.index_select(0, slots).view(rows, length, kv_heads, head_size).transpose(1, 2)
    # heads that share keys are adjacent: [B, kv_heads, group, head_size]
    grouped = q[span.first : span.end].reshape(rows, kv_heads, -1, head_size)
    return functional.scaled_dot_product_attention(grouped, k, v, attn_mask=span.mask).reshape(
        rows, -1
    )


def _attend_prefill(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, span: Span
) -> torch.Tensor:
    """T tokens of one sequence -> [T, heads * head_size]."""
    rows = span.end - span.first
    kv_heads, head_size = keys.shape[1:]
    # [T, heads, head_size] -> [kv_heads, group, T, head_size]
    grouped = q[span.first : span.end].view(rows, kv_heads, -1, head_size).permute(1, 2, 0, 3)
    shape = (kv_heads, grouped.shape[1], len(span.slots), head_size)
    k = keys.index_select(0, span.slots).permute(1, 0, 2).unsqueeze(1).expand(shape)
    v = values.index_select(0, span.slots).permute(1, 0, 2).unsqueeze(1).expand(shape)
    seen = functional.scaled_dot_product_attention(
        grouped, k, v, attn_mask=span.mask, is_causal=span.causal
    )
    return seen.permute(2, 0, 1, 3).reshape(rows, -1)
