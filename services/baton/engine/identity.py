"""The identity of KV: one 128-bit hash chain that router and workers compute alike.

Block i's id is H(id of block i-1, its tokens); the root binds everything that makes KV differ
although the tokens are equal. Pure; knows no pool and no wire format.
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

BLOCK_ID_BYTES = 16
"""128 bits: with 2^40 blocks alive a collision has a chance of 2^-49."""


def root_id(*, model_revision: str, dtype: str, block_size: int, cache_salt: bytes = b"") -> bytes:
    """The parent of a sequence's first block. `cache_salt` keeps tenants' prefixes apart."""
    text = f"{model_revision}\0{dtype}\0{block_size}\0".encode()
    return blake2b(text + cache_salt, digest_size=BLOCK_ID_BYTES, person=b"baton-kv-root").digest()


def block_id(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """The id of the full block that holds `token_ids` after `parent`."""
    words = array("I", token_ids).tobytes()
    return blake2b(parent + words, digest_size=BLOCK_ID_BYTES, person=b"baton-kv-block").digest()


def block_ids(root: bytes, token_ids: Sequence[int], block_size: int) -> list[bytes]:
    """Ids of all full blocks of a sequence, front to back."""
    ids: list[bytes] = []
    parent = root
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        parent = block_id(parent, token_ids[start : start + block_size])
        ids.append(parent)
    return ids
