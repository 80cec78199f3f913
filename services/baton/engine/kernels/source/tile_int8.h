// Up to four rows against a tile of 8-bit keys of one head: as tile.h, in exact integers.
//
// Queries are rounded to 8 bits and weights to 15, each row by itself, so a row's result is a
// function of its query and its keys alone. Integers add up alike in any order.
#pragma once

#ifdef __AVX512VNNI__

#include "tile.h"

namespace baton {

constexpr int kGroups = kTileKeys / kLanes;  // of 16 keys: they lie in one block
constexpr float kPartLevels = 32767.0f;

// Rows' queries in 8 bits, [pairs] each.
struct QueryLevels {
  int8_t* levels;  // [pairs][head_size]
  float* scales;
  int32_t* offsets;  // 128 * sum of the levels: what the keys' offset adds to a score

  // In `space`, which takes pairs * (head_size + 8) bytes and more.
  QueryLevels(float* space, int pairs)
      : levels(reinterpret_cast<int8_t*>(space + 2 * pairs)), scales(space),
        offsets(reinterpret_cast<int32_t*>(space + pairs)) {}

  void set(int pair, const float* q, int head_size) const {
    const float most = largest_magnitude(q, head_size);
    const __m512 factor = _mm512_set1_ps(127.0f / most);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < head_size; i += kLanes) {
      const __m512i level = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(q + i), factor));
      sum = _mm512_add_epi32(sum, level);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(levels + pair * head_size + i),
                       _mm512_cvtsepi32_epi8(level));
    }
    scales[pair] = most / 127.0f;
    offsets[pair] = 128 * _mm512_reduce_add_epi32(sum);
  }
};

// Where the keys and values of a tile lie: groups `begin` to `end` - 1 of it. The pointers of the
// others repeat a readable one.
struct Int8Tile4 {
  const uint8_t* keys[kGroups];
  const uint8_t* values[kGroups];
  const float* key_scales[kGroups];
  const float* value_scales[kGroups];
  int begin, end;

  // The tile at position `first`, of which keys low .. high - 1 are to be read.
  void locate(const KvLayer& kv, const int32_t* table, int head, int first, int low, int high) {
    const Int8Block block = kv.keys.int8_block();
    begin = low / kLanes, end = (high + kLanes - 1) / kLanes;
    for (int g = begin; g < end; ++g) {
      const int position = first + g * kLanes, slot = position % block.block_size;
      uint8_t* key_side = kv.keys.block(table, position);
      uint8_t* value_side = kv.values.block(table, position);
      keys[g] = block.levels(key_side, head) + 4 * slot;
      values[g] = block.levels(value_side, head) + static_cast<size_t>(slot) * block.head_size;
      key_scales[g] = block.scales(key_side, head) + slot;
      value_scales[g] = block.scales(value_side, head) + slot;
    }
    for (int g = 0; g < kGroups; ++g) {
      if (g < begin || g >= end) {
        keys[g] = keys[begin], values[g] = values[begin];
        key_scales[g] = key_scales[begin], value_scales[g] = value_scales[begin];
      }
    }
  }
};

template <int Count>
struct LevelRows : TileRows<Count> {
  const int8_t* levels[Count];
  float scales[Count];
  int32_t offsets[Count];
  alignas(64) int16_t parts[Count][kTileKeys];  // weights times the values' scales, in 15 bits
  float part[Count];                            // what one of their levels is worth
};

inline void add_quads(__m512i& sum, __m512i unsigned_quads, __m512i signed_quads) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_quads), "v"(signed_quads));
}

inline void add_pairs(__m512i& sum, __m512i left, __m512i right) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(left), "v"(right));
}

inline __m512i repeat_4_bytes(const void* place) {
  int32_t value;
  std::memcpy(&value, place, sizeof value);
  return _mm512_set1_epi32(value);
}

inline void ask_for(const void* place) {
  _mm_prefetch(static_cast<const char*>(place), _MM_HINT_T0);
}

// Scores of all rows with all keys of the tile, unseen ones included. `ahead`: a tile to ask for.
template <int Count>
inline void score_levels(const Int8Tile4& tile, const Int8Tile4& ahead, const Int8Block& block,
                         LevelRows<Count>& rows) {
  __m512i sums[Count][kGroups];
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) sums[r][g] = _mm512_setzero_si512();
  }
  const int stride = 4 * block.block_size;
  for (int i = 0, place = 0; i < block.head_size; i += 4, place += stride) {
    __m512i keys[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      keys[g] = _mm512_loadu_si512(tile.keys[g] + place);
      ask_for(ahead.keys[g] + place);
    }
#pragma GCC unroll 4
    for (int r = 0; r < Count; ++r) {
      const __m512i query = repeat_4_bytes(rows.levels[r] + i);
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) add_quads(sums[r][g], keys[g], query);
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    const __m512 key_scale = _mm512_loadu_ps(tile.key_scales[g]);
    ask_for(ahead.key_scales[g]);
    ask_for(ahead.value_scales[g]);
    for (int r = 0; r < Count; ++r) {
      const __m512i exact = _mm512_sub_epi32(sums[r][g], _mm512_set1_epi32(rows.offsets[r]));
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), key_scale);
      _mm512_store_ps(rows.weights[r] + g * kLanes,
                      _mm512_mul_ps(scaled, _mm512_set1_ps(rows.scales[r])));
    }
  }
}

// Weights of one row, times the values' scales, to 15 bits; zero where the row does not see.
template <int Count>
inline void split_weights(const Int8Tile4& tile, LevelRows<Count>& rows, int r) {
  const int low = rows.low[r], high = rows.high[r];
  float* weights = rows.weights[r];
  for (int g = tile.begin; g < tile.end; ++g) {
    const int i = g * kLanes;
    const auto seen = static_cast<__mmask16>(first_lanes(high - i) &
                                             ~static_cast<unsigned>(first_lanes(low - i)));
    _mm512_store_ps(weights + i, _mm512_maskz_mul_ps(seen, _mm512_load_ps(weights + i),
                                                     _mm512_loadu_ps(tile.value_scales[g])));
  }
  const int begin = tile.begin * kLanes;
  const float most = largest_magnitude(weights + begin, tile.end * kLanes - begin);
  const __m512 factor = _mm512_set1_ps(kPartLevels / most);
  rows.part[r] = most / kPartLevels;
  for (int i = begin; i < tile.end * kLanes; i += kLanes) {
    const __m512i part = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(weights + i), factor));
    _mm256_store_si256(reinterpret_cast<__m256i*>(rows.parts[r] + i), _mm512_cvtepi32_epi16(part));
  }
}

// Adds the tile's weighted values to each row, `Vectors` vectors of them from `place` on.
template <int Vectors, int Count>
inline void add_levels(const Int8Tile4& tile, const Int8Tile4& ahead, const LevelRows<Count>& rows,
                       int head_size, int place) {
  __m512i sums[Count][Vectors];
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = _mm512_setzero_si512();
  }
  for (int g = tile.begin; g < tile.end; ++g) {
    const uint8_t *values = tile.values[g] + 2 * place, *next = ahead.values[g] + 2 * place;
    for (int i = 0; i < kLanes; i += 2, values += 2 * head_size, next += 2 * head_size) {
      __m512i value[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        value[v] = _mm512_cvtepi8_epi16(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + 2 * v * kLanes)));
        if (v % 2 == 0) ask_for(next + 2 * v * kLanes);
      }
#pragma GCC unroll 4
      for (int r = 0; r < Count; ++r) {
        const __m512i part = repeat_4_bytes(rows.parts[r] + g * kLanes + i);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) add_pairs(sums[r][v], value[v], part);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
    if (!rows.sees(r)) continue;
    const __m512 kept = _mm512_set1_ps(rows.kept[r]), part = _mm512_set1_ps(rows.part[r]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      float* state = rows.states[r] + kStateHead + place + v * kLanes;
      const __m512 old = _mm512_mul_ps(_mm512_load_ps(state), kept);
      _mm512_store_ps(state, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][v]), part, old));
    }
  }
}

// Brings the rows' states up to date with a tile.
template <int Count>
inline void attend_levels(const Int8Tile4& tile, const Int8Tile4& ahead, const Int8Block& block,
                          LevelRows<Count>& rows) {
  score_levels(tile, ahead, block, rows);
  for (int r = 0; r < Count; ++r) {
    if (!rows.sees(r)) {
      std::memset(rows.parts[r], 0, sizeof rows.parts[r]);
      continue;
    }
    weigh(rows, r);
    split_weights(tile, rows, r);
  }
  int place = 0;
  for (; place + 4 * kLanes <= block.head_size; place += 4 * kLanes) {
    add_levels<4>(tile, ahead, rows, block.head_size, place);
  }
  for (; place < block.head_size; place += kLanes) {
    add_levels<1>(tile, ahead, rows, block.head_size, place);
  }
}

}  // namespace baton

#endif
