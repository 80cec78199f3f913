// What Python calls. Arguments are checked there; see ../library.py.

#include <new>

#include "decoder.h"

using namespace baton;

namespace {
constexpr int kPhases = 2;  // of the calls below that are one run each
}

extern "C" {

int64_t baton_weight_bytes(const Linear* linear) {
  return static_cast<int64_t>(panel_count(*linear) * panel_bytes(*linear));
}

int32_t baton_panels(const Linear* linear) { return panel_count(*linear); }

void baton_pack(const Linear* linear, const float* weight, uint8_t* weights, float* scales,
                int32_t* sums, int32_t threads) {
  Crew crew(threads, kPhases);
  crew.run([&](Crew::Member& member) {
    member.share(panel_count(*linear), [&](int panel) {
      pack_panel(*linear, weight, PackTarget{weights, scales, sums}, panel);
    });
  });
}

// x [rows][inner] -> y [rows][outer], added to it with `add`. For tests and measurements.
void baton_linear(const Linear* linear, const float* x, int32_t rows, int32_t add, float* y,
                  int32_t threads) {
  Crew crew(threads, kPhases);
  Buffer<uint8_t> prepared;
  Buffer<float> scales, copy;
  const size_t stride = prepared_bytes(*linear);
  prepared.reserve((rows + kSpareRows) * stride);
  scales.reserve(rows);
  copy.reserve(round_up(linear->inner, 64));
  for (int row = 0; row < rows; ++row) {
    Preparation{*linear}.row(x + static_cast<size_t>(row) * linear->inner, copy.data(),
                             prepared.data() + row * stride, scales.data() + row);
  }
  const Target target = add ? Target::kAdd : Target::kStore;
  const Prepared in{prepared.data(), scales.data(), stride};
  const Output out{y, static_cast<size_t>(linear->outer), target};
  crew.run([&](Crew::Member& member) {
    const MatrixUse matrices(*linear, rows);
    const LinearTasks tasks(*linear, in, out, rows, member.scratch.reserve(panel_scratch(*linear)));
    member.share(tasks.count(), tasks);
  });
}

// One layer's attention. q [rows][heads][head_size rounded up to 16], scaled by log2(e) and the
// root of head_size -> out [rows][heads][head_size]. For tests.
void baton_attend(const Model* model, const Step* step, int32_t layer, const float* q, float* out,
                  int32_t threads) {
  Crew crew(threads, kPhases);
  AttentionTasks tasks;
  tasks.plan(*model, *step, threads);
  const KvLayer kv = kv_layer(*model, *step, layer);
  crew.run([&](Crew::Member& member) {
    member.share(tasks.count(), [&](int task) {
      tasks.attend(task, *step, kv, model->layers[layer].window, q, out, member.scratch);
    });
    member.share(tasks.merge_count(),
                 [&](int index) { tasks.merge(index, model->head_size, out); });
  });
}

// Null when memory or threads ran out.
void* baton_decoder_new(const Model* model, int32_t threads, int32_t nicer) {
  try {
    return new Decoder(*model, threads, nicer);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void baton_decoder_delete(void* decoder) { delete static_cast<Decoder*>(decoder); }

// 0, or 1 when memory ran out.
int32_t baton_decoder_step(void* decoder, const Step* step) {
  try {
    static_cast<Decoder*>(decoder)->step(*step);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

int32_t baton_decoder_logits(void* decoder, const float* hidden, int32_t rows, float* logits,
                             int64_t stride) {
  try {
    static_cast<Decoder*>(decoder)->logits(hidden, rows, logits, stride);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // extern "C"
