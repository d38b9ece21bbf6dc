// SPDX-License-Identifier: Apache-2.0
#include "cpu/host_threads.h"

#include <algorithm>
#include <atomic>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace fusednn::cpu {
namespace {

HostRuntime host;
std::atomic<bool> lends{false};

struct Call {
  int threads;
  void (*body)(void* data, int rank);
  void* data;
  bool done;
};

void call(void* given) {
  auto& call = *static_cast<Call*>(given);
  const int rank = host.rank();
  if (host.team_size() < call.threads) return;
  if (rank == 0) call.done = true;
  if (rank < call.threads) call.body(call.data, rank);
}

}  // namespace

void borrow_threads(const HostRuntime& runtime) {
  if (lends.load(std::memory_order_acquire)) return;
  host = runtime;
#if !defined(_WIN32)
  // The child of a fork has no team, and the runtime would wait for it for ever.
  pthread_atfork(nullptr, nullptr, [] { lends.store(false); });
#endif
  lends.store(true, std::memory_order_release);
}

int lent_threads(int wanted) {
  if (!lends.load(std::memory_order_acquire) || host.in_parallel() != 0) return 0;
  const int threads = std::min(wanted, host.max_threads());
  return threads > 1 ? threads : 0;
}

bool run_on_host(int threads, void (*body)(void* data, int rank), void* data) {
  Call own{threads, body, data, false};
  // Always as many as the host uses: a runtime ends the threads that a smaller team leaves over.
  host.parallel(&call, &own, static_cast<unsigned>(host.max_threads()), 0);
  return own.done;
}

}  // namespace fusednn::cpu
