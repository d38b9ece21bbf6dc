// SPDX-License-Identifier: Apache-2.0
// What one instruction set exports: for every operation and dtype a kernel, and its demand.
//
// A kernel file defines, for its operation, the two templates declared below and instantiates them
// for float and double.
#pragma once

#include "cpu/kernels/ceiling.h"
#include "cpu/kernels/context.h"
#include "engine/backend.h"

namespace fusednn::cpu {

struct KernelTable {
  static constexpr int kOperations = Operations::size;
  using Run = void (*)(const void* arguments, const Context& context);
  using Ask = Demand (*)(const void* arguments, int threads);
  using RunStrain = void (*)(const Strain& work, const Context& context);
  Run run[kDTypes][kOperations];
  Ask demand[kDTypes][kOperations];
  RunStrain strain[kDTypes];  // no operation of the engine: it measures the machine
};

}  // namespace fusednn::cpu

#if defined(FNN_ISA)
namespace fusednn::FNN_ISA {

using cpu::Context;
using cpu::Demand;

extern const cpu::KernelTable kernel_table;

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

template <class T> Demand demand(const DenseForward&, int threads);
template <class T> Demand demand(const DenseBackwardInput&, int threads);
template <class T> Demand demand(const DenseBackwardWeights&, int threads);
template <class T> Demand demand(const Elementary&, int threads);
template <class T> Demand demand(const ActivationForward&, int threads);
template <class T> Demand demand(const ActivationBackward&, int threads);
template <class T> Demand demand(const SoftmaxForward&, int threads);
template <class T> Demand demand(const SoftmaxBackward&, int threads);
template <class T> Demand demand(const Loss&, int threads);
template <class T> Demand demand(const Accuracy&, int threads);
template <class T> Demand demand(const Sum&, int threads);
template <class T> Demand demand(const Tally&, int threads);
template <class T> Demand demand(const Dropout&, int threads);
template <class T> Demand demand(const Rescale&, int threads);
template <class T> Demand demand(const Resample&, int threads);
template <class T> Demand demand(const MixRows&, int threads);
template <class T> Demand demand(const BatchNormForward&, int threads);
template <class T> Demand demand(const BatchNormBackward&, int threads);
template <class T> Demand demand(const LayerNormForward&, int threads);
template <class T> Demand demand(const LayerNormBackward&, int threads);
template <class T> Demand demand(const CopyRows&, int threads);
template <class T> Demand demand(const GatherRows&, int threads);
template <class T> Demand demand(const Fill&, int threads);
template <class T> Demand demand(const PenaltyGradient&, int threads);
template <class T> Demand demand(const ClipCoefficient&, int threads);
template <class T> Demand demand(const Penalty&, int threads);
template <class T> Demand demand(const PrepareUpdate&, int threads);
template <class T> Demand demand(const OptimizerStep&, int threads);
template <class T> Demand demand(const Constrain&, int threads);
template <class T> Demand demand(const BeginStep&, int threads);

template <class T> void strain(const cpu::Strain&, const Context&);
// clang-format on

}  // namespace fusednn::FNN_ISA
#endif
