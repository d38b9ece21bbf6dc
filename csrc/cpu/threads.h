// SPDX-License-Identifier: Apache-2.0
// One small pool of threads for the whole process. A region runs a function on a team: the caller is
// rank 0, workers of the pool are the others. One region uses the pool at a time; who comes while it
// is taken, or from inside a region, runs with a team of one, which gives the same results.
#pragma once

#include "cpu/kernels/context.h"

namespace fusednn::cpu {

// The largest team; initial_threads() of processors.h until it is set.
int num_threads();
void set_num_threads(int threads);  // std::invalid_argument unless 1 <= threads <= kMaxThreads

// Returns when all of the team have returned from body, which must not throw.
using TeamBody = void (*)(void* data, const Context& context);
void run_team(int threads, TeamBody body, void* data);

// How a region ran, and what it took.
struct TeamRun {
  bool team;
  double nanoseconds;
};
// The same, but alone where a team would take longer: on a machine that is too busy for teams, and
// where what one thread does in so many nanoseconds is done before a sleeping team is awake.
TeamRun run_team_if_it_pays(int threads, double nanoseconds, TeamBody body, void* data);

}  // namespace fusednn::cpu
