// SPDX-License-Identifier: Apache-2.0
// What a kernel knows of the thread it runs on. All threads of a team call the same kernel with the
// same arguments; each takes its share by rank. How work is cut into pieces depends on shapes alone,
// never on the size of the team, so results have the same bits for any number of threads.
#pragma once

#include <stddef.h>

#include "core/dtype.h"
#include "core/hd.h"

namespace fusednn::cpu {

struct Context {
  int rank = 0;
  int size = 1;
  char* workspace = nullptr;         // shared by the team, as large as the operation asked for
  void (*barrier)(void*) = nullptr;  // waits until the whole team has arrived
  void* team = nullptr;
  bool has_bf16 = false;  // whether instructions of AVX512-BF16 may be used

  FNN_HD void sync() const {
    if (size > 1) barrier(team);
  }
};

// What an operation asks for before it runs.
struct Demand {
  double nanoseconds = 0;  // rough time on one core; decides whether threads are worth waking
  size_t workspace_bytes = 0;
};

struct Range {
  Index begin;
  Index end;
};

// The share of n pieces that belongs to one thread of the team.
FNN_HD Range share(Index n, const Context& context) {
  if (context.size == 1) return {0, n};
  return {n * context.rank / context.size, n * (context.rank + 1) / context.size};
}

}  // namespace fusednn::cpu
