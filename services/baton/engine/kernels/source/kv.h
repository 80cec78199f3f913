// The paged KV cache as the kernels see it: where a token lies, how it is written, how it is read.
//
// A block's side is [slot][head][dim] in float32 or bfloat16. In 8 bits it is ordered for the
// instructions that read it; see kv_int8.h.
#pragma once

#include <algorithm>

#include "abi.h"
#include "kv_int8.h"
#include "vec.h"

namespace baton {

inline int kv_bytes(int kv_type) {
  return kv_type == kKvFloat32 ? 4 : kv_type == kKvBfloat16 ? 2 : 1;
}

// One side (keys or values) of one layer, for all blocks.
struct KvSide {
  uint8_t* base;
  int kv_type;
  int kv_heads, head_size, block_size;

  size_t block_bytes() const {
    if (kv_type == kKvInt8) return int8_block().bytes();
    return block_size * token_bytes();
  }

  // The side of the block that holds `position`, of the sequence with this block table.
  uint8_t* block(const int32_t* table, int position) const {
    return base + table[position / block_size] * block_bytes();
  }

  Int8Block int8_block() const { return {kv_heads, head_size, block_size}; }

  // Float types: the vector of a head of the token at `position`.
  uint8_t* at(const int32_t* table, int position, int head) const {
    const size_t vector = static_cast<size_t>(position % block_size) * kv_heads + head;
    return block(table, position) + vector * head_size * kv_bytes(kv_type);
  }

  // Float types: bytes from a token's vector to that of the next token in its block.
  size_t token_bytes() const {
    return static_cast<size_t>(kv_heads) * head_size * kv_bytes(kv_type);
  }

  // Float types: calls visit(position, vector) for positions begin .. end - 1; one division per
  // block.
  template <class Visit>
  void each(const int32_t* table, int begin, int end, int head, const Visit& visit) const {
    for (int position = begin; position < end;) {
      const int stop = std::min(end, (position / block_size + 1) * block_size);
      const uint8_t* place = at(table, position, head);
      for (; position < stop; ++position, place += token_bytes()) visit(position, place);
    }
  }

  // Float types: puts a vector where `at` says.
  void store(uint8_t* place, const float* x) const {
    for (int i = 0; i < head_size; i += kLanes) {
      const Floats v = load_floats(x + i, head_size - i);
      if (kv_type == kKvFloat32) {
        store_floats(reinterpret_cast<float*>(place) + i, v, head_size - i);
      } else {
        store_bf16(place + 2 * i, v, head_size - i);
      }
    }
  }

  // Float types: copies a vector to `out` as whole vectors of floats, zero past its end.
  void load(const uint8_t* place, float* out) const {
    for (int i = 0; i < head_size; i += kLanes) {
      store_floats(out + i, kv_type == kKvFloat32
                                ? load_floats(reinterpret_cast<const float*>(place) + i,
                                              head_size - i)
                                : load_bf16(place + 2 * i, head_size - i));
    }
  }
};

struct KvLayer {
  KvSide keys, values;

  bool is_int8() const { return keys.kv_type == kKvInt8; }

  // Puts a head's key, and its value, of the token at `position` into the cache.
  void store(const int32_t* table, int position, int head, const float* key,
             const float* value) const {
    if (is_int8()) {
      const Int8Block block = keys.int8_block();
      const int slot = position % keys.block_size;
      block.store_key(keys.block(table, position), head, slot, key);
      block.store_value(values.block(table, position), head, slot, value);
    } else {
      keys.store(keys.at(table, position, head), key);
      values.store(values.at(table, position, head), value);
    }
  }
};

inline KvLayer kv_layer(const Model& model, const Step& step, int layer) {
  const auto side = [&](int index) {
    KvSide found{static_cast<uint8_t*>(step.cache), step.kv_type, model.kv_heads, model.head_size,
                 step.block_size};
    found.base += index * step.block_count * found.block_bytes();
    return found;
  };
  return {side(2 * layer), side(2 * layer + 1)};
}

}  // namespace baton
