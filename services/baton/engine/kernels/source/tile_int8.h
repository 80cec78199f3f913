// Up to four rows against a tile of 8-bit keys of one head: as tile.h, in exact integers.
//
// Queries are rounded to 8 bits and weights to 15, each row by itself, so a row's result is a
// function of its query and its keys alone. Integers add up alike in any order.
#pragma once

#include "tile.h"

namespace baton {

constexpr int kGroups = kTileKeys / kLanes;  // of 16 keys: they lie in one block
constexpr float kPartLevels = 32767.0f;

// Rows' queries in 8 bits, [pairs] each.
struct QueryLevels {
  uint8_t* quads;  // [pairs][head_size / 4][kQuadBytes]
  float* scales;
  int32_t* excesses;  // of the sums of products with all levels

  // In `space`, which takes pairs * (2 * head_size + 8) bytes and more.
  QueryLevels(float* space, int pairs)
      : quads(reinterpret_cast<uint8_t*>(space + 2 * pairs)), scales(space),
        excesses(reinterpret_cast<int32_t*>(space + pairs)) {}

  uint8_t* of(int pair, int head_size) const { return quads + pair * (head_size / 4 * kQuadBytes); }

  void set(int pair, const float* q, int head_size) const {
    const float most = largest_magnitude(q, head_size);
    const Floats factor = repeat(kLevels / most);
    Ints excess = zero_ints();
    uint8_t* out = of(pair, head_size);
    for (int i = 0; i < head_size; i += kLanes, out += kLanes / 4 * kQuadBytes) {
      const Ints level = to_ints(load_floats(q + i) * factor);
      excess = add_ints(excess, query_excess(level));
      put_query_quads(out, to_int8(level));
    }
    scales[pair] = most / kLevels;
    excesses[pair] = sum_of(excess);
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
  const uint8_t* quads[Count];
  float scales[Count];
  int32_t excesses[Count];
  alignas(64) int16_t parts[Count][kTileKeys];  // weights times the values' scales, in 15 bits
  float part[Count];                            // what one of their levels is worth
};

// The products are functions of their own, and each runs through its sums in one loop whose length is
// known: otherwise compilers keep the sums in memory, at half the speed.

// Scores of all rows with the keys of kLevelGroups groups from `first` on, unseen ones included.
// `ahead`: a tile to ask for.
template <int Count>
[[gnu::noinline]] inline void score_levels(const Int8Tile4& tile, const Int8Tile4& ahead,
                                           const Int8Block& block, int first,
                                           LevelRows<Count>& rows) {
  constexpr int kSums = Count * kLevelGroups;
  Ints sums[kSums];
#pragma GCC unroll 16
  for (int n = 0; n < kSums; ++n) sums[n] = zero_ints();
  const int stride = 4 * block.block_size;
  for (int i = 0, place = 0; i < block.head_size; i += 4, place += stride) {
    Quads keys[kLevelGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kLevelGroups; ++g) {
      keys[g] = load_quads(tile.keys[first + g] + place);
      ask_for(ahead.keys[first + g] + place);
    }
#pragma GCC unroll 16
    for (int n = 0; n < kSums; ++n) {
      const Quad query = repeat_quad(rows.quads[n / kLevelGroups] + i / 4 * kQuadBytes);
      add_quads(sums[n], keys[n % kLevelGroups], query);
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < kLevelGroups; ++g) {
    ask_for(ahead.key_scales[first + g]);
    ask_for(ahead.value_scales[first + g]);
  }
#pragma GCC unroll 16
  for (int n = 0; n < kSums; ++n) {
    const int r = n / kLevelGroups, g = first + n % kLevelGroups;
    const Ints exact = subtract_ints(sums[n], repeat_int(rows.excesses[r]));
    store_floats(rows.weights[r] + g * kLanes,
                 to_floats(exact) * load_floats(tile.key_scales[g]) * repeat(rows.scales[r]));
  }
}

// Scores of one row to weights, and these times the values' scales to 15 bits: zero where the row
// does not see. Updates its maximum and sum.
template <int Count>
inline void weigh_levels(const Int8Tile4& tile, LevelRows<Count>& rows, int r) {
  const int low = rows.low[r], high = rows.high[r];
  Mask seen[kGroups];
  Floats weights[kGroups], scaled[kGroups];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    seen[g] = lanes(low - g * kLanes, high - g * kLanes);
    weights[g] = pick(seen[g], load_floats(rows.weights[r] + g * kLanes), repeat(kNothing));
  }
  const Floats most = larger(larger(weights[0], weights[1]), larger(weights[2], weights[3]));
  const Floats now = repeat(raise_maximum(rows, r, largest_of(most)));
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    weights[g] = exp2_of(weights[g] - now);
    const Floats value_scale = load_floats(tile.value_scales[g]);
    scaled[g] = pick(seen[g], weights[g] * value_scale, zero_floats());
  }
  float* state = rows.states[r];
  const Floats sum = (weights[0] + weights[1]) + (weights[2] + weights[3]);
  state[1] = state[1] * rows.kept[r] + sum_of(sum);
  // none is negative: NaN among them shows in their sum, and the maximum need not look for it
  const Floats scaled_sum = (scaled[0] + scaled[1]) + (scaled[2] + scaled[3]);
  const Floats scaled_most = larger(larger(scaled[0], scaled[1]), larger(scaled[2], scaled[3]));
  const float top = any(is_nan(scaled_sum)) ? std::nanf("") : std::fmax(largest_of(scaled_most), 1e-30f);
  const Floats factor = repeat(kPartLevels / top);
  rows.part[r] = top / kPartLevels;
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(rows.parts[r] + g * kLanes),
                       to_int16(to_ints(scaled[g] * factor)));
  }
}

// Adds the tile's weighted values to each row, `Vectors` vectors of them from `place` on.
template <int Vectors, int Count>
[[gnu::noinline]] inline void add_levels(const Int8Tile4& tile, const Int8Tile4& ahead,
                                         const LevelRows<Count>& rows, int head_size, int place) {
  constexpr int kSums = Count * Vectors;
  Ints sums[kSums];
#pragma GCC unroll 16
  for (int n = 0; n < kSums; ++n) sums[n] = zero_ints();
  for (int g = tile.begin; g < tile.end; ++g) {
    const uint8_t *values = tile.values[g] + 2 * place, *next = ahead.values[g] + 2 * place;
    for (int i = 0; i < kLanes; i += 2, values += 2 * head_size, next += 2 * head_size) {
      Pairs value[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        value[v] = load_pairs(values + 2 * v * kLanes);
        if (v % 2 == 0) ask_for(next + 2 * v * kLanes);
      }
#pragma GCC unroll 16
      for (int n = 0; n < kSums; ++n) {
        int32_t weights;
        std::memcpy(&weights, rows.parts[n / Vectors] + g * kLanes + i, sizeof weights);
        add_pairs(sums[n], value[n % Vectors], weights);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Count; ++r) {
    if (!rows.sees(r)) continue;
    const Floats kept = repeat(rows.kept[r]), part = repeat(rows.part[r]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      float* state = rows.states[r] + kStateHead + place + v * kLanes;
      store_floats(state, fused(to_floats(sums[r * Vectors + v]), part, load_floats(state) * kept));
    }
  }
}

// Brings the rows' states up to date with a tile.
template <int Count>
inline void attend_levels(const Int8Tile4& tile, const Int8Tile4& ahead, const Int8Block& block,
                          LevelRows<Count>& rows) {
  for (int first = 0; first < kGroups; first += kLevelGroups) {
    score_levels(tile, ahead, block, first, rows);
  }
  for (int r = 0; r < Count; ++r) {
    if (!rows.sees(r)) {
      std::memset(rows.parts[r], 0, sizeof rows.parts[r]);
      continue;
    }
    weigh_levels(tile, rows, r);
  }
  int place = 0;
  for (; place + kLevelVectors * kLanes <= block.head_size; place += kLevelVectors * kLanes) {
    add_levels<kLevelVectors>(tile, ahead, rows, block.head_size, place);
  }
  for (; place < block.head_size; place += kLanes) {
    add_levels<1>(tile, ahead, rows, block.head_size, place);
  }
}

}  // namespace baton
