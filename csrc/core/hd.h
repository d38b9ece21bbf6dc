// SPDX-License-Identifier: Apache-2.0
// FNN_HD marks a function that a CUDA thread and a CPU kernel may both call.
// On the host it forces inlining: a rule compiled for AVX-512 must never become a symbol that the
// linker could hand to code meant for an older processor.
#pragma once

#if defined(__CUDACC__)
#define FNN_HD __host__ __device__ __forceinline__
#else
#define FNN_HD inline __attribute__((always_inline))
#endif
