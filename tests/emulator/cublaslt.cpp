// SPDX-License-Identifier: Apache-2.0
// What csrc/cuda uses of cuBLASLt, in three loops. It is part of the emulated _cuda, which is handed to
// load_cublaslt() as if it were the library.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/cublaslt_api.h"

namespace lt = fusednn::cuda::lt;

namespace {

struct DescState {
  lt::ComputeType compute;
  lt::Operation transpose_a = lt::kAsItIs, transpose_b = lt::kAsItIs;
  lt::Epilogue epilogue = lt::kNoEpilogue;
  const void* bias = nullptr;
};

struct LayoutState {
  lt::DataType type;
  uint64_t rows, cols;
  int64_t stride;
};

constexpr size_t kWorkspace = 256;  // so that a missing one is noticed

// A number of any of the types that an operand may have.
double element(lt::DataType type, const void* data, uint64_t i) {
  if (type == lt::kFloat64) return static_cast<const double*>(data)[i];
  if (type == lt::kFloat32) return static_cast<const float*>(data)[i];
  const uint16_t half = static_cast<const uint16_t*>(data)[i];
  if (type == lt::kFloat16) {
    _Float16 number;
    std::memcpy(&number, &half, sizeof(half));
    return static_cast<float>(number);
  }
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float number;
  std::memcpy(&number, &bits, sizeof(bits));
  return number;
}

template <class T>
struct Work {
  DescState desc;
  LayoutState a, b, d;
  T alpha, beta;
  const void *a_data, *b_data;
  T* d_data;
  unsigned char* workspace;
};

template <class T>
void multiply(Work<T> w) {
  std::memset(w.workspace, 0, kWorkspace);
  const auto at = [](const void* data, const LayoutState& layout, bool transposed, uint64_t i,
                     uint64_t j) {
    const auto stride = static_cast<uint64_t>(layout.stride);
    return static_cast<T>(element(layout.type, data, transposed ? j + i * stride : i + j * stride));
  };
  const bool ta = w.desc.transpose_a == lt::kTransposed, tb = w.desc.transpose_b == lt::kTransposed;
  const uint64_t depth = ta ? w.a.rows : w.a.cols;
  for (uint64_t j = 0; j < w.d.cols; ++j) {
    for (uint64_t i = 0; i < w.d.rows; ++i) {
      T sum = 0;
      for (uint64_t k = 0; k < depth; ++k) {
        sum += at(w.a_data, w.a, ta, i, k) * at(w.b_data, w.b, tb, k, j);
      }
      T& d = w.d_data[i + j * static_cast<uint64_t>(w.d.stride)];
      d = w.alpha * sum + (w.beta == 0 ? 0 : w.beta * d);
      if (w.desc.epilogue == lt::kBias) d += static_cast<const T*>(w.desc.bias)[i];
    }
  }
  // The gradient of a bias, in the place of one.
  auto* sums = static_cast<T*>(const_cast<void*>(w.desc.bias));
  const bool of_a = w.desc.epilogue == lt::kGradientFromA;
  const bool of_b = w.desc.epilogue == lt::kGradientFromB;
  for (uint64_t i = 0; i < (of_a ? w.d.rows : of_b ? w.d.cols : 0); ++i) {
    T sum = 0;
    for (uint64_t k = 0; k < depth; ++k) {
      sum += of_a ? at(w.a_data, w.a, ta, i, k) : at(w.b_data, w.b, tb, k, i);
    }
    sums[i] = sum;
  }
}

template <class T>
lt::Status start(const DescState& desc, const void* alpha, const void* a, const LayoutState& la,
                 const void* b, const LayoutState& lb, const void* beta, void* d,
                 const LayoutState& ld, void* workspace, cudaStream_t stream) {
  const Work<T> work{desc,
                     la,
                     lb,
                     ld,
                     *static_cast<const T*>(alpha),
                     *static_cast<const T*>(beta),
                     a,
                     b,
                     static_cast<T*>(d),
                     static_cast<unsigned char*>(workspace)};
  cudaLaunchConfig_t config = {};
  config.stream = stream;
  return cudaLaunchKernelEx(&config, &multiply<T>, work) == cudaSuccess
             ? lt::kSuccess
             : static_cast<lt::Status>(13);
}

}  // namespace

#define FNN_LT extern "C" __attribute__((visibility("default")))

FNN_LT size_t cublasLtGetVersion() { return 130000; }

FNN_LT lt::Status cublasLtCreate(lt::Handle* handle) {
  *handle = handle;
  return lt::kSuccess;
}

FNN_LT lt::Status cublasLtMatmulDescCreate(lt::Desc* desc, lt::ComputeType compute, lt::DataType) {
  *desc = new DescState{compute};
  return lt::kSuccess;
}

FNN_LT lt::Status cublasLtMatmulDescDestroy(lt::Desc desc) {
  delete static_cast<DescState*>(desc);
  return lt::kSuccess;
}

FNN_LT lt::Status cublasLtMatmulDescSetAttribute(lt::Desc desc, lt::DescAttribute attribute,
                                                 const void* value, size_t bytes) {
  auto& state = *static_cast<DescState*>(desc);
  void* to = nullptr;
  size_t expected = 4;
  if (attribute == lt::kTransA) to = &state.transpose_a;
  if (attribute == lt::kTransB) to = &state.transpose_b;
  if (attribute == lt::kEpilogue) to = &state.epilogue;
  if (attribute == lt::kBiasPointer) {
    to = &state.bias;
    expected = sizeof(void*);
  }
  if (to == nullptr || bytes != expected) return static_cast<lt::Status>(7);
  std::memcpy(to, value, bytes);
  return lt::kSuccess;
}

FNN_LT lt::Status cublasLtMatrixLayoutCreate(lt::Layout* layout, lt::DataType type, uint64_t rows,
                                             uint64_t cols, int64_t stride) {
  if (stride < static_cast<int64_t>(rows)) return static_cast<lt::Status>(7);
  *layout = new LayoutState{type, rows, cols, stride};
  return lt::kSuccess;
}

FNN_LT lt::Status cublasLtMatrixLayoutDestroy(lt::Layout layout) {
  delete static_cast<LayoutState*>(layout);
  return lt::kSuccess;
}

FNN_LT lt::Status cublasLtMatmulPreferenceCreate(lt::Preference* preference) {
  *preference = preference;
  return lt::kSuccess;
}

FNN_LT lt::Status cublasLtMatmulPreferenceDestroy(lt::Preference) { return lt::kSuccess; }

FNN_LT lt::Status cublasLtMatmulPreferenceSetAttribute(lt::Preference,
                                                       lt::PreferenceAttribute attribute,
                                                       const void*, size_t bytes) {
  return bytes == (attribute == lt::kMaxWorkspaceBytes ? 8U : 4U) ? lt::kSuccess
                                                                  : static_cast<lt::Status>(7);
}

FNN_LT lt::Status cublasLtMatmulAlgoGetHeuristic(lt::Handle, lt::Desc desc, lt::Layout a,
                                                 lt::Layout b, lt::Layout, lt::Layout d,
                                                 lt::Preference, int, lt::HeuristicResult* results,
                                                 int* found) {
  const auto& state = *static_cast<DescState*>(desc);
  const auto &la = *static_cast<LayoutState*>(a), &lb = *static_cast<LayoutState*>(b),
             &ld = *static_cast<LayoutState*>(d);
  const bool ta = state.transpose_a == lt::kTransposed, tb = state.transpose_b == lt::kTransposed;
  const bool fits = (ta ? la.cols : la.rows) == ld.rows && (tb ? lb.rows : lb.cols) == ld.cols &&
                    (ta ? la.rows : la.cols) == (tb ? lb.cols : lb.rows);
  *found = fits ? 1 : 0;
  if (fits) *results = {{}, kWorkspace, lt::kSuccess, 1, {}};
  return fits ? lt::kSuccess : static_cast<lt::Status>(7);
}

FNN_LT lt::Status cublasLtMatmul(lt::Handle, lt::Desc desc, const void* alpha, const void* a,
                                 lt::Layout la, const void* b, lt::Layout lb, const void* beta,
                                 const void*, lt::Layout, void* d, lt::Layout ld,
                                 const lt::Algorithm*, void* workspace, size_t bytes,
                                 cudaStream_t stream) {
  if (bytes != kWorkspace || workspace == nullptr) return static_cast<lt::Status>(7);
  const auto& state = *static_cast<DescState*>(desc);
  const auto &a_layout = *static_cast<LayoutState*>(la), &b_layout = *static_cast<LayoutState*>(lb),
             &d_layout = *static_cast<LayoutState*>(ld);
  return state.compute == lt::kCompute64 ? start<double>(state, alpha, a, a_layout, b, b_layout,
                                                         beta, d, d_layout, workspace, stream)
                                         : start<float>(state, alpha, a, a_layout, b, b_layout,
                                                        beta, d, d_layout, workspace, stream);
}
