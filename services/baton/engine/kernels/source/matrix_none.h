// Of builds without matrix registers: they multiply nothing with them. See matrix_amx.h.
#pragma once

#include "int4.h"

namespace baton {

constexpr int kSpareRows = 0;

struct MatrixUse {
  MatrixUse(const Linear&, int) {}
};

inline bool takes_matrices(const Linear&, int) { return false; }

inline void compute_matrix_panel(const Linear&, const uint8_t*, const uint8_t*, const Prepared&,
                                 const Output&, int, int, int) {}

inline void compute_int4_matrix_panel(const Linear&, const Prepared&, const Output&, int, int, int,
                                      int, float*) {}

}  // namespace baton
