// SPDX-License-Identifier: Apache-2.0
// Threads of the program that we are a guest in. PyTorch's operations run on an OpenMP runtime whose
// threads spin for milliseconds after each of them. A pool of our own would have to share the
// processors with those; so inside a PyTorch program regions run on the very threads that spin.
// Nothing is linked: the runtime is the one in the process, known by the addresses of its functions.
#pragma once

#include <cstdint>

namespace fusednn::cpu {

// Functions of an OpenMP runtime; GOMP_parallel is what GCC's and LLVM's both have.
struct HostRuntime {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*max_threads)() = nullptr;  // omp_get_max_threads, of the calling thread
  int (*team_size)() = nullptr;    // omp_get_num_threads
  int (*rank)() = nullptr;         // omp_get_thread_num
  int (*in_parallel)() = nullptr;  // omp_in_parallel
};

// From now on regions run there. The addresses must stay valid; a child of fork() goes without.
void borrow_threads(const HostRuntime& runtime);

// How many of the threads wanted the host lends to the calling thread now: 0 if none are to be had.
int lent_threads(int wanted);

// Calls body(data, rank) on a team of lent_threads(...) threads. False if the runtime gave fewer: then
// nothing was called.
bool run_on_host(int threads, void (*body)(void* data, int rank), void* data);

}  // namespace fusednn::cpu
