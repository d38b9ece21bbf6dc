// SPDX-License-Identifier: Apache-2.0
// What a launch for several dense layers is expected to cost, and what their commands one by one would, in
// nanoseconds.
#pragma once

#include <algorithm>
#include <cmath>

#include "cuda/kernels/fused_chain.h"

namespace fusednn::cuda {

// Predictions for an H100, until bench/device.py has compared both ways on one. They decide which way a
// list runs, so they are the same on every device.
constexpr double kStart = 2e3;       // of a kernel in a graph, with what every block does first
constexpr double kBytes = 4e3;       // of global memory per nanosecond
constexpr double kSeparate = 250e3;  // operations per nanosecond of a product by itself, and
constexpr double kForward = 3e3, kBackward = 1.5e3;  // in a launch, of one multiprocessor
constexpr double kWeights = 1e3;                     // until a block of a launch has its weights
constexpr double kMultiprocessors = 132;

inline double separate(double rows, double in, double out, double bytes_per_row) {
  return kStart + std::max(rows * bytes_per_row / kBytes, 2 * rows * in * out / kSeparate);
}

inline double products(const FusedWeights& layer) {
  return 2.0 * fragment_up(layer.in) * fragment_up(layer.out);
}

inline double cost(const FusedForward& chain) {
  double work = 0;
  for (int l = 0; l < chain.layers; ++l) work += products(chain.layer[l]);
  const double turns = std::ceil(double(chain.rows) / (kGradientRows * kMultiprocessors));
  return kStart + kWeights + turns * double(kGradientRows) * work / kForward;
}
inline double cost_apart(const FusedForward& chain) {
  double sum = 0;
  for (int l = 0; l < chain.layers; ++l) {
    const FusedForwardLayer& layer = chain.layer[l];
    const double numbers = layer.in + layer.out * (layer.z.data != nullptr ? 2 : 1);
    sum += separate(double(chain.rows), layer.in, layer.out, 4 * numbers);
  }
  return sum;
}

inline double cost(const FusedBackward& chain) {
  double work = 0;
  for (int l = 0; l < chain.layers; ++l) {
    const bool again = l > 0 && chain.layer[l].x.data == nullptr;
    work += products(chain.layer[l]) * (again ? 3 : 2);
  }
  return 2 * kStart + kWeights + 2 * double(chain.workspace()) / kBytes +
         double(chain.tiles_per_part() * kGradientRows) * work / kBackward;
}
inline double cost_apart(const FusedBackward& chain) {
  double sum = 0;
  for (int l = 0; l < chain.layers; ++l) {
    const FusedBackwardLayer& layer = chain.layer[l];
    const double rows = double(chain.rows);
    sum += separate(rows, layer.in, layer.out, 4.0 * (layer.in + layer.out));
    if (l == 0 && chain.dx.data == nullptr) continue;
    sum += separate(rows, layer.in, layer.out, 4.0 * (2 * layer.in + layer.out));
  }
  return sum;
}

}  // namespace fusednn::cuda
