// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace faulty {

constexpr int kThreads = 64;

// Computes y of x, n elements each; without `right` it does so with its fault.
using Kernel = void (*)(const float* x, float* y, int n, bool right);
Kernel kernel(const char* name);

}  // namespace faulty
