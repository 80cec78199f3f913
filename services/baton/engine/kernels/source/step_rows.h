// The rows of a step on their way through the layers: where they lie, and what is computed of them
// before and after each attention. Who computes is told from outside, see hands.h.
#pragma once

#include <chrono>

#include "hands.h"
#include "pack.h"
#include "rows.h"

namespace baton {

// Adds the time since it was last asked to one part of the step; one thread's does.
class Clock {
 public:
  explicit Clock(double* seconds) : seconds_(seconds) {
    if (seconds_ != nullptr) last_ = std::chrono::steady_clock::now();
  }
  void spent(Part part) {
    if (seconds_ == nullptr) return;
    const auto now = std::chrono::steady_clock::now();
    seconds_[part] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  double* seconds_;
  std::chrono::steady_clock::time_point last_;
};

class StepRows {
 public:
  explicit StepRows(const Model& model)
      : model_(model), half_(model.head_size / 2), width_(round_up(model.head_size, kLanes)),
        wide_stride_(std::max(qkv_size(), model.mlp_size)), prepared_stride_(widest_row(model)) {}

  // Queries [rows][heads][width], and what attention makes of them [rows][heads][head_size].
  const float* q() const { return q_.data(); }
  float* attended() const { return attended_.data(); }

  void reserve(const Step& step) {
    const size_t rows = step.rows;
    x_.reserve(rows * model_.hidden_size + kLanes);
    wide_.reserve(rows * wide_stride_ + kLanes);
    attended_.reserve(rows * attended_size() + kLanes);
    const size_t q_floats = rows * model_.heads * width_;
    std::memset(q_.reserve(q_floats), 0, sizeof(float) * q_floats);
    angles_.reserve(rows * 2 * half_);
    places_.reserve(rows * 2);
    reserve_prepared(rows);
    for (int s = 0, row = 0; s < step.sequences; ++s) {
      for (int i = 0; i < step.lengths[s]; ++i, ++row) {
        places_.data()[2 * row] = s;
        places_.data()[2 * row + 1] = step.starts[s] + i;
      }
    }
  }

  // Everything before the first attention.
  template <class Hands>
  void begin(const Hands& hands, const Step& step, Clock& clock) {
    hands.rows([&](int row) { embed(step, row); });
    before_attention(hands, step, 0, clock);
  }

  // Everything from the attention of a layer to the next one's, or to the end.
  template <class Hands>
  void go_on(const Hands& hands, const Step& step, int index, Clock& clock) {
    after_attention(hands, index, clock);
    if (index + 1 < model_.layer_count) return before_attention(hands, step, index + 1, clock);
    hands.rows([&](int row) {
      rms_norm(x(row), model_.final_norm, model_.hidden_size, model_.norm_epsilon,
               step.hidden + static_cast<size_t>(row) * model_.hidden_size);
    });
    clock.spent(kPartRest);
  }

  // Final hidden rows, row(i) each -> out [count][stride], vocab_size of each row written
  template <class Row>
  void logits(const AllHands& hands, const Row& row, float* out, size_t stride) {
    prepare(hands, model_.head, row);
    multiply(hands, model_.head, out, stride, Target::kStore);
  }

  void reserve_prepared(size_t rows) {
    prepared_.reserve((rows + kSpareRows) * prepared_stride_);
    scales_.reserve(rows);
  }

 private:
  static size_t widest_row(const Model& model) {
    const Layer& layer = model.layers[0];
    return std::max({prepared_bytes(layer.qkv), prepared_bytes(layer.output),
                     prepared_bytes(layer.down), prepared_bytes(model.head)});
  }

  float* x(int row) const { return x_.data() + static_cast<size_t>(row) * model_.hidden_size; }
  int qkv_size() const { return (model_.heads + 2 * model_.kv_heads) * model_.head_size; }
  int attended_size() const { return model_.heads * model_.head_size; }

  template <class Hands>
  void before_attention(const Hands& hands, const Step& step, int index, Clock& clock) {
    const Layer& layer = model_.layers[index];
    const KvLayer kv = kv_layer(model_, step, index);
    const HeadSplit split{model_, layer, kv};
    prepare_normed(hands, layer.qkv, layer.attention_norm);
    clock.spent(kPartRest);
    hands.expect(layer.output);
    multiply(hands, layer.qkv, wide_.data(), wide_stride_, Target::kStore);
    clock.spent(kPartLinear);
    hands.rows([&](int row) { split_row(split, step, row); });
    clock.spent(kPartRest);
  }

  template <class Hands>
  void after_attention(const Hands& hands, int index, Clock& clock) {
    const Layer& layer = model_.layers[index];
    prepare(hands, layer.output, [&](int row) {
      return attended_.data() + static_cast<size_t>(row) * attended_size();
    });
    clock.spent(kPartRest);
    hands.expect(layer.gate_up);
    multiply(hands, layer.output, x_.data(), model_.hidden_size, Target::kAdd);
    clock.spent(kPartLinear);
    prepare_normed(hands, layer.gate_up, layer.mlp_norm);
    clock.spent(kPartRest);
    hands.expect(layer.down);
    multiply(hands, layer.gate_up, wide_.data(), wide_stride_, Target::kStore);
    clock.spent(kPartLinear);
    prepare(hands, layer.down, [&](int row) { return wide_.data() + row * wide_stride_; });
    clock.spent(kPartRest);
    hands.expect(index + 1 < model_.layer_count ? model_.layers[index + 1].qkv : model_.head);
    multiply(hands, layer.down, x_.data(), model_.hidden_size, Target::kAdd);
    clock.spent(kPartLinear);
  }

  void embed(const Step& step, int row) {
    float* angles = angles_.data() + static_cast<size_t>(row) * 2 * half_;
    rotary_angles(places_.data()[2 * row + 1], model_.frequencies, half_, angles, angles + half_);
    embed_row(step.tokens[row], x(row));
  }

  void embed_row(int token, float* out) const {
    const int size = model_.hidden_size;
    if (model_.embedding_kind == kFromHead) {
      unpack_row(model_.head, token, out);
    } else if (model_.embedding_kind == kRowsFloat32) {
      const auto* table = static_cast<const float*>(model_.embedding);
      std::memcpy(out, table + static_cast<size_t>(token) * size, sizeof(float) * size);
    } else {
      const auto* halves =
          static_cast<const uint16_t*>(model_.embedding) + static_cast<size_t>(token) * size;
      for (int i = 0; i < size; i += kLanes) {
        const auto* place = reinterpret_cast<const uint8_t*>(halves + i);
        store_floats(out + i, load_bf16(place, size - i), size - i);
      }
    }
  }

  void split_row(const HeadSplit& split, const Step& step, int row) {
    const float* angles = angles_.data() + static_cast<size_t>(row) * 2 * half_;
    const int* place = places_.data() + 2 * row;
    split.row(wide_.data() + static_cast<size_t>(row) * wide_stride_, angles, angles + half_,
              step.tables + step.table_offsets[place[0]], place[1],
              q_.data() + static_cast<size_t>(row) * model_.heads * width_);
  }

  void prepare_row(const Linear& linear, const float* row, float* scratch, int index) {
    Preparation{linear}.row(row, scratch, prepared_.data() + index * prepared_stride_,
                            scales_.data() + index);
  }

  template <class Hands, class Row>
  void prepare(const Hands& hands, const Linear& linear, const Row& in) {
    float* scratch = hands.member.scratch.reserve(round_up(linear.inner, 64));
    hands.rows([&](int row) { prepare_row(linear, in(row), scratch, row); });
  }

  template <class Hands>
  void prepare_normed(const Hands& hands, const Linear& linear, const float* weight) {
    float* scratch = hands.member.scratch.reserve(round_up(linear.inner, 64));
    hands.rows([&](int row) {
      rms_norm(x(row), weight, model_.hidden_size, model_.norm_epsilon, scratch);
      prepare_row(linear, scratch, scratch, row);
    });
  }

  template <class Hands>
  void multiply(const Hands& hands, const Linear& linear, float* out, size_t stride,
                Target target) {
    const Prepared in{prepared_.data(), linear.scheme == kInt8 ? scales_.data() : nullptr,
                      prepared_stride_};
    hands.multiply(linear, in, Output{out, stride, target});
  }

  const Model model_;
  const int half_, width_;
  // One for all linear layers: blocks of rows are at different ones at a time.
  const size_t wide_stride_, prepared_stride_;
  Buffer<float> x_, wide_, attended_, q_, angles_, scales_;
  Buffer<int> places_;
  Buffer<uint8_t> prepared_;
};

}  // namespace baton
