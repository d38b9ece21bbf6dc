// SPDX-License-Identifier: Apache-2.0
// Partial loads and stores for 16-byte vectors, which have no masked memory access: element by
// element. A kernel gets here once per row, in the tail.
#pragma once

#include "cpu/kernels/simd_native.h"

namespace fusednn::FNN_ISA::native {

template <class Raw, class T>
FNN_HD Raw load_elements(const T* p, int lanes) {
  Raw v{};
  for (int i = 0; i < lanes; ++i) v[i] = p[i];
  return v;
}

template <class Raw, class T>
FNN_HD void store_elements(T* p, Raw v, int lanes) {
  for (int i = 0; i < lanes; ++i) p[i] = v[i];
}

// clang-format off
FNN_HD F32 load_partial(const float* p, int lanes)    { return load_elements<F32>(p, lanes); }
FNN_HD F64 load_partial(const double* p, int lanes)   { return load_elements<F64>(p, lanes); }
FNN_HD U32 load_partial(const uint32_t* p, int lanes) { return load_elements<U32>(p, lanes); }
FNN_HD void store_partial(float* p, F32 v, int lanes)    { store_elements(p, v, lanes); }
FNN_HD void store_partial(double* p, F64 v, int lanes)   { store_elements(p, v, lanes); }
FNN_HD void store_partial(uint32_t* p, U32 v, int lanes) { store_elements(p, v, lanes); }
// clang-format on

}  // namespace fusednn::FNN_ISA::native
