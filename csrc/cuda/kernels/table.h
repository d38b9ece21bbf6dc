// SPDX-License-Identifier: Apache-2.0
// For every operation and dtype a function that starts its kernels, and the workspace it wants.
//
// A kernel file defines, for its operation, the two templates declared below and instantiates them for
// float and double. All memory that an operation names is device memory, the tables and the numbers
// behind pointers included: a host function never looks at them, because a recorded launch runs again
// when they have changed. It allocates nothing, waits for nothing, and starts everything on the
// stream of its context with launch(), so that it can be captured.
//
// The same sources are compiled as C++ for tests without a GPU (tests/emulator/cuda_runtime.h says what
// there is). So: kernels start through launch() alone, dynamic shared memory comes from
// dynamic_shared(), inline assembly stands in small functions with an equivalent beside it, every thread
// of a block comes to each __syncthreads() and every lane that a mask names to each warp function.
#pragma once

#include <stddef.h>

#include "cuda/kernels/context.h"
#include "engine/backend.h"

namespace fusednn::cuda {

struct KernelTable {
  static constexpr int kOperations = Operations::size;
  using Run = void (*)(const void* arguments, const Context& context);
  using Ask = size_t (*)(const void* arguments);
  Run run[kDTypes][kOperations];
  Ask workspace[kDTypes][kOperations];
};

extern const KernelTable kernel_table;

// clang-format off
template <class T> void run(const DenseForward&, const Context&);
template <class T> void run(const DenseBackwardInput&, const Context&);
template <class T> void run(const DenseBackwardWeights&, const Context&);
template <class T> void run(const Elementary&, const Context&);
template <class T> void run(const ActivationForward&, const Context&);
template <class T> void run(const ActivationBackward&, const Context&);
template <class T> void run(const SoftmaxForward&, const Context&);
template <class T> void run(const SoftmaxBackward&, const Context&);
template <class T> void run(const Loss&, const Context&);
template <class T> void run(const Accuracy&, const Context&);
template <class T> void run(const Sum&, const Context&);
template <class T> void run(const Tally&, const Context&);
template <class T> void run(const Dropout&, const Context&);
template <class T> void run(const Rescale&, const Context&);
template <class T> void run(const Resample&, const Context&);
template <class T> void run(const MixRows&, const Context&);
template <class T> void run(const BatchNormForward&, const Context&);
template <class T> void run(const BatchNormBackward&, const Context&);
template <class T> void run(const LayerNormForward&, const Context&);
template <class T> void run(const LayerNormBackward&, const Context&);
template <class T> void run(const CopyRows&, const Context&);
template <class T> void run(const GatherRows&, const Context&);
template <class T> void run(const Fill&, const Context&);
template <class T> void run(const PenaltyGradient&, const Context&);
template <class T> void run(const ClipCoefficient&, const Context&);
template <class T> void run(const Penalty&, const Context&);
template <class T> void run(const PrepareUpdate&, const Context&);
template <class T> void run(const OptimizerStep&, const Context&);
template <class T> void run(const Constrain&, const Context&);
template <class T> void run(const BeginStep&, const Context&);

template <class T> size_t workspace(const DenseForward&);
template <class T> size_t workspace(const DenseBackwardInput&);
template <class T> size_t workspace(const DenseBackwardWeights&);
template <class T> size_t workspace(const Elementary&);
template <class T> size_t workspace(const ActivationForward&);
template <class T> size_t workspace(const ActivationBackward&);
template <class T> size_t workspace(const SoftmaxForward&);
template <class T> size_t workspace(const SoftmaxBackward&);
template <class T> size_t workspace(const Loss&);
template <class T> size_t workspace(const Accuracy&);
template <class T> size_t workspace(const Sum&);
template <class T> size_t workspace(const Tally&);
template <class T> size_t workspace(const Dropout&);
template <class T> size_t workspace(const Rescale&);
template <class T> size_t workspace(const Resample&);
template <class T> size_t workspace(const MixRows&);
template <class T> size_t workspace(const BatchNormForward&);
template <class T> size_t workspace(const BatchNormBackward&);
template <class T> size_t workspace(const LayerNormForward&);
template <class T> size_t workspace(const LayerNormBackward&);
template <class T> size_t workspace(const CopyRows&);
template <class T> size_t workspace(const GatherRows&);
template <class T> size_t workspace(const Fill&);
template <class T> size_t workspace(const PenaltyGradient&);
template <class T> size_t workspace(const ClipCoefficient&);
template <class T> size_t workspace(const Penalty&);
template <class T> size_t workspace(const PrepareUpdate&);
template <class T> size_t workspace(const OptimizerStep&);
template <class T> size_t workspace(const Constrain&);
template <class T> size_t workspace(const BeginStep&);
// clang-format on

}  // namespace fusednn::cuda
