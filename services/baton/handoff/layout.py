"""The layout of KV blocks and its fingerprint, and how a sequence fills blocks. Pure.

Two workers may exchange KV only when every field of `KvLayout` is equal. Knows no bytes of KV, no
wire format and no pool.
"""

import dataclasses
from dataclasses import dataclass
from hashlib import blake2b

from baton.common.errors import LayoutMismatch
from baton.engine.quant.kv import kv_vector_bytes

FINGERPRINT_BYTES = 8
"""For people who compare two workers' logs: 64 bits tell all layouts of a fleet apart."""


@dataclass(frozen=True, slots=True)
class KvLayout:
    """A block is [layer][k,v][side]; how a side of `block_size` tokens lies is the cache's, and
    equal for equal layouts."""

    model_revision: str
    layers: int
    kv_heads: int
    head_size: int
    block_size: int  # tokens per block
    dtype: str  # as `kv_vector_bytes` knows them

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers. Raises KeyError for a dtype we do not hold KV in."""
        vectors = self.layers * 2 * self.block_size * self.kv_heads
        return vectors * kv_vector_bytes(self.dtype, self.head_size)

    def fingerprint(self) -> str:
        """16 hex digits that differ when any field does."""
        text = "\0".join(str(value) for value in dataclasses.astuple(self))
        return blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).hexdigest()

    def require_same(self, other: "KvLayout") -> None:
        """Raises LayoutMismatch that shows both fingerprints and each field that differs."""
        if self == other:
            return
        differences = [
            f"{field.name} {getattr(self, field.name)!r} here, {getattr(other, field.name)!r} there"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]
        raise LayoutMismatch(
            f"KV layouts differ: {self.fingerprint()} here, {other.fingerprint()} there"
            f" ({'; '.join(differences)})"
        )


@dataclass(frozen=True, slots=True)
class Extent:
    """How many blocks a sequence of `tokens` fills."""

    tokens: int
    block_size: int

    @property
    def block_count(self) -> int:
        """Blocks that hold any of the tokens; the last may be partly filled."""
        return -(-self.tokens // self.block_size)

    @property
    def full_block_count(self) -> int:
        """Blocks filled to the last slot: only these have an identity and may outlive a failure."""
        return self.tokens // self.block_size

    def blocks_ready(self, computed_tokens: int) -> int:
        """Leading blocks that may be sent once the first `computed_tokens` are computed."""
        if computed_tokens >= self.tokens:
            return self.block_count
        return computed_tokens // self.block_size
