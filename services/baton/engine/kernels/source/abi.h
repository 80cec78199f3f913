// The structs that Python fills and the step reads. Mirrored field by field in ../structs.py.
// Pointers are borrowed: whoever made them keeps them alive for as long as they are used.
#pragma once

#include <cstdint>

namespace baton {

enum Scheme : int32_t {
  kFloat32 = 0,
  kBfloat16 = 1,
  kInt8 = 2,
  kInt8Weight = 3,
  kInt4Weight = 4,
  kInt4 = 5
};
enum KvType : int32_t { kKvFloat32 = 0, kKvBfloat16 = 1, kKvInt8 = 2 };
enum Embedding : int32_t { kRowsFloat32 = 0, kRowsBfloat16 = 1, kFromHead = 2 };

// Columns (outputs) that are packed, and computed, together: two vectors of 16.
constexpr int kPanel = 32;

// One linear layer, packed. Panel-ordered arrays have kPanel entries per panel, zero past the end.
struct Linear {
  // [panels][steps][kPanel][4 bytes]: int8 x 4, bfloat16 x 2 or float32; of the weight-only schemes
  // as weight_only.h says, of int4 as int4.h does
  const uint8_t* weights;
  const float* scales;     // int8, int4, and int8 weights alone: per column, panel order
  const int32_t* sums;     // int8: 128 * sum of the column's levels, panel order
  const float* bias;       // panel order, or null
  int32_t scheme;
  int32_t inner;    // inputs
  int32_t outer;    // outputs; of a paired layer: outputs after the gate
  int32_t rotated;  // int8: inputs that are rotated together, a power of two
  int32_t paired;   // each panel holds 16 gates and their 16 ups
};

struct Layer {
  Linear qkv, output, gate_up, down;
  const float* attention_norm;  // [hidden]
  const float* mlp_norm;        // [hidden]
  const float* q_norm;          // [head_size], or null
  const float* k_norm;          // [head_size], or null
  int32_t window;               // tokens a row sees, itself included; 0: all
};

struct Model {
  const Layer* layers;
  Linear head;
  const float* final_norm;   // [hidden]
  const float* frequencies;  // [head_size / 2] radians per position
  const void* embedding;     // [vocab, hidden]; unused with kFromHead
  int32_t embedding_kind;
  int32_t layer_count;
  int32_t vocab_size;
  int32_t hidden_size;
  int32_t mlp_size;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_size;
  float norm_epsilon;
};

// One step: rows of all sequences lie one after the other, in the order of the sequences.
struct Step {
  const int32_t* tokens;         // [rows]
  const int32_t* starts;         // [sequences] tokens in the cache before the step
  const int32_t* lengths;        // [sequences] rows of the step
  const int32_t* tables;         // block ids, all sequences' one after the other
  const int32_t* table_offsets;  // [sequences] where each one's begin
  void* cache;                   // [layers][k, v][blocks][side of a block], see kv.h
  const int32_t* draws;          // [drawn] rows whose next tokens are wanted
  float* hidden;                 // out: [rows, hidden_size], after the final norm
  float* logits;                 // out: [drawn][logits_stride], vocab_size of each row written
  int32_t* likeliest;            // out: [drawn] the token of the highest logit, the lowest of equals
  int32_t* finite;               // out: [drawn] whether all the row's logits are
  double* seconds;               // out, added to: [kPartCount]; or null
  int32_t rows;
  int32_t sequences;
  int32_t kv_type;
  int32_t block_count;
  int32_t block_size;
  int32_t drawn;
  int32_t logits_stride;
  int32_t alone;  // one thread computes it all
  int32_t stands_back;  // on threads that do so, where the decoder has them
};

// What the time of a step goes to.
enum Part : int32_t { kPartLinear = 0, kPartAttention = 1, kPartRest = 2, kPartCount = 3 };

}  // namespace baton
