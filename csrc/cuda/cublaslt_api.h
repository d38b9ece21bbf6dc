// SPDX-License-Identifier: Apache-2.0
// The few functions and numbers of cuBLASLt (11 to 13, whose binary interface they share) that are used,
// declared here so that building needs none of its headers.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace fusednn::cuda::lt {

enum Status : int { kSuccess = 0 };
enum DataType : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBfloat16 = 14 };
enum ComputeType : int { kCompute32 = 68, kCompute64 = 70, kComputeTf32 = 77 };
enum Operation : int32_t { kAsItIs = 0, kTransposed = 1 };
enum DescAttribute : int { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8 };
// The gradient of the bias is the sum of A or of B over k, and goes to kBiasPointer.
enum Epilogue : uint32_t { kNoEpilogue = 1, kBias = 4, kGradientFromA = 256, kGradientFromB = 512 };
enum PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,
  kMinAlignmentA = 5,
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8
};

struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

using Handle = void*;
using Desc = void*;
using Layout = void*;
using Preference = void*;

// One member per function, named as it is in the library after its prefix cublasLt.
struct Api {
  size_t (*GetVersion)();
  Status (*Create)(Handle* handle);
  Status (*MatmulDescCreate)(Desc* desc, ComputeType compute, DataType scale);
  Status (*MatmulDescDestroy)(Desc desc);
  Status (*MatmulDescSetAttribute)(Desc desc, DescAttribute attribute, const void* value,
                                   size_t bytes);
  Status (*MatrixLayoutCreate)(Layout* layout, DataType type, uint64_t rows, uint64_t cols,
                               int64_t stride);
  Status (*MatrixLayoutDestroy)(Layout layout);
  Status (*MatmulPreferenceCreate)(Preference* preference);
  Status (*MatmulPreferenceDestroy)(Preference preference);
  Status (*MatmulPreferenceSetAttribute)(Preference preference, PreferenceAttribute attribute,
                                         const void* value, size_t bytes);
  Status (*MatmulAlgoGetHeuristic)(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d,
                                   Preference preference, int wanted, HeuristicResult* results,
                                   int* found);
  Status (*Matmul)(Handle handle, Desc desc, const void* alpha, const void* a, Layout layout_a,
                   const void* b, Layout layout_b, const void* beta, const void* c, Layout layout_c,
                   void* d, Layout layout_d, const Algorithm* algorithm, void* workspace,
                   size_t workspace_bytes, cudaStream_t stream);
};

}  // namespace fusednn::cuda::lt
