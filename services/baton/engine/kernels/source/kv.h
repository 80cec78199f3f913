// The paged KV cache as the kernels see it: where a token lies, how it is written, how it is read.
#pragma once

#include <algorithm>

#include "abi.h"
#include "vec.h"

namespace baton {

inline int kv_bytes(int kv_type) { return kv_type == kKvFloat32 ? 4 : 2; }

// One side (keys or values) of one layer, for all blocks.
struct KvSide {
  uint8_t* base;
  int kv_type;
  int kv_heads, head_size, block_size;

  // The vector of a head of the token at `position`, of the sequence with this block table.
  uint8_t* at(const int32_t* table, int position, int head) const {
    const size_t slot =
        static_cast<size_t>(table[position / block_size]) * block_size + position % block_size;
    return base + (slot * kv_heads + head) * head_size * kv_bytes(kv_type);
  }

  // Bytes from a token's vector to that of the next token in its block.
  size_t token_bytes() const {
    return static_cast<size_t>(kv_heads) * head_size * kv_bytes(kv_type);
  }

  // Calls visit(position, vector) for positions begin .. end - 1; one division per block.
  template <class Visit>
  void each(const int32_t* table, int begin, int end, int head, const Visit& visit) const {
    for (int position = begin; position < end;) {
      const int stop = std::min(end, (position / block_size + 1) * block_size);
      const uint8_t* place = at(table, position, head);
      for (; position < stop; ++position, place += token_bytes()) visit(position, place);
    }
  }

  void store(uint8_t* place, const float* x) const {
    for (int i = 0; i < head_size; i += kLanes) {
      const __mmask16 mask = first_lanes(head_size - i);
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
      if (kv_type == kKvFloat32) {
        _mm512_mask_storeu_ps(reinterpret_cast<float*>(place) + i, mask, v);
      } else {
        _mm256_mask_storeu_epi16(place + 2 * i, mask, narrow_bf16(v));
      }
    }
  }

  // Copies a vector to `out` as whole vectors of floats, zero past its end.
  void load(const uint8_t* place, float* out) const {
    for (int i = 0; i < head_size; i += kLanes) {
      const __mmask16 mask = first_lanes(head_size - i);
      const __m512 v =
          kv_type == kKvFloat32
              ? _mm512_maskz_loadu_ps(mask, reinterpret_cast<const float*>(place) + i)
              : widen_bf16(_mm256_maskz_loadu_epi16(mask, place + 2 * i));
      _mm512_store_ps(out + i, v);
    }
  }
};

struct KvLayer {
  KvSide keys, values;
};

inline KvLayer kv_layer(const Model& model, const Step& step, int layer) {
  const size_t bytes = static_cast<size_t>(step.block_count) * step.block_size * model.kv_heads *
                       model.head_size * kv_bytes(step.kv_type);
  auto* base = static_cast<uint8_t*>(step.cache) + 2 * layer * bytes;
  const auto side = [&](uint8_t* first) {
    return KvSide{first, step.kv_type, model.kv_heads, model.head_size, step.block_size};
  };
  return {side(base), side(base + bytes)};
}

}  // namespace baton
