// One side of a block in 8 bits: symmetric levels, and a float32 scale per token and head.
//
// A vector's levels and scale depend on that vector alone. They are ordered as the products want
// them, with no shuffling left to do:
//   keys    [head][dim / 4][slot][4]   level + 128: 4 dims of 16 tokens are one vector
//   values  [head][slot / 2][dim][2]   level: 16 dims of 2 tokens are one half vector
// and behind either the scales [head][slot].
#pragma once

#include "vec.h"

namespace baton {

struct Int8Block {
  int kv_heads, head_size, block_size;  // multiples of kLanes: head_size, block_size

  size_t head_levels() const { return static_cast<size_t>(head_size) * block_size; }

  size_t bytes() const {
    return kv_heads * (head_levels() + block_size * sizeof(float));
  }

  // Of a block's side: a head's levels, and its scales.
  uint8_t* levels(uint8_t* side, int head) const { return side + head * head_levels(); }
  float* scales(uint8_t* side, int head) const {
    return reinterpret_cast<float*>(side + kv_heads * head_levels()) + head * block_size;
  }

  void store_key(uint8_t* side, int head, int slot, const float* x) const {
    const float most = scale_of(side, head, slot, x);
    uint8_t* out = levels(side, head) + 4 * slot;
    for (int i = 0; i < head_size; i += kLanes) {
      const __m128i bytes = _mm_xor_si128(levels_of(load_floats(x + i), most), _mm_set1_epi8(-128));
      alignas(16) uint32_t quads[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(quads), bytes);
      for (int j = 0; j < 4; ++j, out += 4 * block_size) std::memcpy(out, quads + j, 4);
    }
  }

  // Writes its own bytes only: another thread may be writing the other slot of the pair.
  void store_value(uint8_t* side, int head, int slot, const float* x) const {
    const float most = scale_of(side, head, slot, x);
    uint8_t* out = levels(side, head) + static_cast<size_t>(slot / 2) * 2 * head_size;
    for (int i = 0; i < head_size; i += kLanes) {
      store_every_second(out + slot % 2 + 2 * i, levels_of(load_floats(x + i), most));
    }
  }

 private:
  // Stores the scale; a vector with NaN gets the scale NaN, so that what reads it is NaN.
  float scale_of(uint8_t* side, int head, int slot, const float* x) const {
    const float most = largest_magnitude(x, head_size);
    scales(side, head)[slot] = most / kLevels;
    return most;
  }
};

}  // namespace baton
