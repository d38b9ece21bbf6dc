// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace fusednn::cpu {

constexpr int kMaxThreads = 1024;

// How many processors this process may use: those of its affinity mask, at most what its cgroup's
// quota pays for. Asked of the system once.
int available_processors();

// FUSEDNN_NUM_THREADS, else OMP_NUM_THREADS, else available_processors(). Throws
// std::invalid_argument if FUSEDNN_NUM_THREADS is not a number from 1 to kMaxThreads; what
// OMP_NUM_THREADS says is for others to complain about.
int initial_threads();

}  // namespace fusednn::cpu
