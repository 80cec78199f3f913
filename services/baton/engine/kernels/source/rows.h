// What is done to single rows between the linear layers: norms, rotary positions, the KV store.
#pragma once

#include "kv.h"
#include "linear.h"

namespace baton {

// out = x / rms(x) * weight; out may be x.
inline void rms_norm(const float* x, const float* weight, int count, float epsilon, float* out) {
  const float mean = sum_of_squares(x, count) / static_cast<float>(count);
  const Floats factor = repeat(1.0f / std::sqrt(mean + epsilon));
  for (int i = 0; i < count; i += kLanes) {
    const Floats scaled = load_floats(x + i, count - i) * factor;
    store_floats(out + i, scaled * load_floats(weight + i, count - i), count - i);
  }
}

// The angles of one position, [head_size / 2] each.
inline void rotary_angles(int position, const float* frequencies, int half, float* cosines,
                          float* sines) {
  for (int i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * frequencies[i];
    cosines[i] = std::cos(angle);
    sines[i] = std::sin(angle);
  }
}

// One head turned by its angles, halves paired; `factor` scales the result. x and out may be one.
inline void turn(const float* x, const float* cosines, const float* sines, int half, float factor,
                 float* out) {
  const Floats scale = repeat(factor);
  for (int i = 0; i < half; i += kLanes) {
    const int left = half - i;
    const Floats a = load_floats(x + i, left), b = load_floats(x + half + i, left);
    const Floats c = load_floats(cosines + i, left), s = load_floats(sines + i, left);
    store_floats(out + i, (a * c - b * s) * scale, left);
    store_floats(out + half + i, (b * c + a * s) * scale, left);
  }
}

// Takes the products of one row apart: queries go to `q`, keys and values into the cache.
struct HeadSplit {
  const Model& model;
  const Layer& layer;
  const KvLayer& kv;

  // qkv: [heads + 2 * kv_heads][head_size], spoilt. q: [heads][width], the padding already zero.
  void row(float* qkv, const float* cosines, const float* sines, const int32_t* table, int position,
           float* q) const {
    const int size = model.head_size, half = size / 2, width = round_up(size, kLanes);
    // scores in powers of two: what attention exponentiates with
    const float factor = kLog2E / std::sqrt(static_cast<float>(size));
    for (int head = 0; head < model.heads; ++head, qkv += size) {
      if (layer.q_norm != nullptr) rms_norm(qkv, layer.q_norm, size, model.norm_epsilon, qkv);
      turn(qkv, cosines, sines, half, factor, q + head * width);
    }
    const float* values = qkv + model.kv_heads * size;
    for (int head = 0; head < model.kv_heads; ++head, qkv += size, values += size) {
      if (layer.k_norm != nullptr) rms_norm(qkv, layer.k_norm, size, model.norm_epsilon, qkv);
      turn(qkv, cosines, sines, half, 1.0f, qkv);
      kv.store(table, position, head, qkv, values);
    }
  }
};

}  // namespace baton
