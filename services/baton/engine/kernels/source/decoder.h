// The whole decoder, all layers in one call: what each thread does between the meetings.
#pragma once

#include <chrono>

#include "attention_tasks.h"
#include "crew.h"
#include "pack.h"
#include "rows.h"

namespace baton {

class Decoder {
 public:
  Decoder(const Model& model, int threads)
      : model_(model), crew_(threads, kLayerPhases * model.layer_count + kOtherPhases), half_(model.head_size / 2),
        width_(round_up(model.head_size, kLanes)) {}

  void step(const Step& step) {
    reserve(step);
    attention_.plan(model_, step, crew_.size());
    crew_.run([&](Crew::Member& member) {
      Clock clock(member.caller ? step.seconds : nullptr);
      embed(member, step);
      for (int i = 0; i < model_.layer_count; ++i) layer(member, step, i, clock);
      member.share(step.rows, [&](int row) {
        rms_norm(x(row), model_.final_norm, model_.hidden_size, model_.norm_epsilon,
                 step.hidden + static_cast<size_t>(row) * model_.hidden_size);
      });
      clock.spent(kPartRest);
    });
  }

  // hidden [rows][hidden_size] -> out [rows][stride], vocab_size of each row written
  void logits(const float* hidden, int rows, float* out, size_t stride) {
    const Linear& head = model_.head;
    prepared_.reserve(static_cast<size_t>(rows) * prepared_bytes(head));
    scales_.reserve(rows);
    crew_.run([&](Crew::Member& member) {
      prepare(member, head, rows, hidden, model_.hidden_size);
      multiply(member, head, rows, out, stride, Target::kStore);
    });
  }

  // logits [rows][stride] -> [rows] each
  void best(const float* logits, int rows, size_t stride, int32_t* token_ids, int32_t* finite) {
    crew_.run([&](Crew::Member& member) {
      member.share(rows, [&](int row) {
        const Best found = best_of(logits + row * stride, model_.vocab_size);
        token_ids[row] = found.index, finite[row] = found.finite;
      });
    });
  }

 private:
  static constexpr int kLayerPhases = 11;  // calls of share in `layer`
  static constexpr int kOtherPhases = 2;   // and in `step`, `logits` or `best`

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

  float* x(int row) const { return x_.data() + static_cast<size_t>(row) * model_.hidden_size; }
  int qkv_size() const { return (model_.heads + 2 * model_.kv_heads) * model_.head_size; }
  int attended_size() const { return model_.heads * model_.head_size; }

  void reserve(const Step& step) {
    const size_t rows = step.rows;
    x_.reserve(rows * model_.hidden_size + kLanes);
    wide_.reserve(rows * std::max(qkv_size(), model_.mlp_size) + kLanes);
    attended_.reserve(rows * attended_size() + kLanes);
    const size_t q_floats = rows * model_.heads * width_;
    std::memset(q_.reserve(q_floats), 0, sizeof(float) * q_floats);
    angles_.reserve(rows * 2 * half_);
    places_.reserve(rows * 2);
    const Layer& layer = model_.layers[0];
    const int bytes = std::max({prepared_bytes(layer.qkv), prepared_bytes(layer.output),
                                prepared_bytes(layer.down)});
    prepared_.reserve(rows * bytes);
    scales_.reserve(rows);
    for (int s = 0, row = 0; s < step.sequences; ++s) {
      for (int i = 0; i < step.lengths[s]; ++i, ++row) {
        places_.data()[2 * row] = s;
        places_.data()[2 * row + 1] = step.starts[s] + i;
      }
    }
  }

  void embed(Crew::Member& member, const Step& step) {
    member.share(step.rows, [&](int row) {
      float* angles = angles_.data() + static_cast<size_t>(row) * 2 * half_;
      rotary_angles(places_.data()[2 * row + 1], model_.frequencies, half_, angles, angles + half_);
      embed_row(step.tokens[row], x(row));
    });
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
        const __mmask16 mask = first_lanes(size - i);
        _mm512_mask_storeu_ps(out + i, mask,
                              widen_bf16(_mm256_maskz_loadu_epi16(mask, halves + i)));
      }
    }
  }

  void layer(Crew::Member& member, const Step& step, int index, Clock& clock) {
    const Layer& layer = model_.layers[index];
    const KvLayer kv = kv_layer(model_, step, index);
    prepare_normed(member, layer.qkv, step.rows, layer.attention_norm);
    clock.spent(kPartRest);
    multiply(member, layer.qkv, step.rows, wide_.data(), qkv_size(), Target::kStore);
    clock.spent(kPartLinear);
    split_heads(member, step, layer, kv);
    clock.spent(kPartRest);
    attend(member, step, layer, kv);
    clock.spent(kPartAttention);
    prepare(member, layer.output, step.rows, attended_.data(), attended_size());
    clock.spent(kPartRest);
    multiply(member, layer.output, step.rows, x_.data(), model_.hidden_size, Target::kAdd);
    clock.spent(kPartLinear);
    prepare_normed(member, layer.gate_up, step.rows, layer.mlp_norm);
    clock.spent(kPartRest);
    multiply(member, layer.gate_up, step.rows, wide_.data(), model_.mlp_size, Target::kStore);
    clock.spent(kPartLinear);
    prepare(member, layer.down, step.rows, wide_.data(), model_.mlp_size);
    clock.spent(kPartRest);
    multiply(member, layer.down, step.rows, x_.data(), model_.hidden_size, Target::kAdd);
    clock.spent(kPartLinear);
  }

  void prepare_row(const Linear& linear, float* row, int index) {
    Preparation{linear}.row(row, prepared_.data() + index * size_t(prepared_bytes(linear)),
                            scales_.data() + index);
  }

  void prepare(Crew::Member& member, const Linear& linear, int rows, const float* in, int stride) {
    float* scratch = member.scratch.reserve(round_up(linear.inner, 64));
    member.share(rows, [&](int row) {
      std::memcpy(scratch, in + static_cast<size_t>(row) * stride, sizeof(float) * linear.inner);
      prepare_row(linear, scratch, row);
    });
  }

  void prepare_normed(Crew::Member& member, const Linear& linear, int rows, const float* weight) {
    float* scratch = member.scratch.reserve(round_up(linear.inner, 64));
    member.share(rows, [&](int row) {
      rms_norm(x(row), weight, model_.hidden_size, model_.norm_epsilon, scratch);
      prepare_row(linear, scratch, row);
    });
  }

  void multiply(Crew::Member& member, const Linear& linear, int rows, float* out, size_t stride,
                Target target) {
    const Prepared in{prepared_.data(), linear.scheme == kInt8 ? scales_.data() : nullptr,
                      size_t(prepared_bytes(linear))};
    float* scratch = member.scratch.reserve(panel_scratch(linear));
    const LinearTasks tasks(linear, in, Output{out, stride, target}, rows, scratch);
    member.share(tasks.count(), tasks);
  }

  void split_heads(Crew::Member& member, const Step& step, const Layer& layer, const KvLayer& kv) {
    const HeadSplit split{model_, layer, kv};
    member.share(step.rows, [&](int row) {
      const float* angles = angles_.data() + static_cast<size_t>(row) * 2 * half_;
      const int* place = places_.data() + 2 * row;
      split.row(wide_.data() + static_cast<size_t>(row) * qkv_size(), angles, angles + half_,
                step.tables + step.table_offsets[place[0]], place[1],
                q_.data() + static_cast<size_t>(row) * model_.heads * width_);
    });
  }

  void attend(Crew::Member& member, const Step& step, const Layer& layer, const KvLayer& kv) {
    member.share(attention_.count(), [&](int task) {
      attention_.attend(task, step, kv, layer.window, q_.data(), attended_.data(), member.scratch);
    });
    if (attention_.merge_count() == 0) return;
    member.share(attention_.merge_count(), [&](int index) {
      attention_.merge(index, model_.head_size, attended_.data());
    });
  }

  const Model model_;
  Crew crew_;
  const int half_, width_;
  AttentionTasks attention_;
  Buffer<float> x_, wide_, attended_, q_, angles_, scales_;
  Buffer<int> places_;
  Buffer<uint8_t> prepared_;
};

}  // namespace baton
