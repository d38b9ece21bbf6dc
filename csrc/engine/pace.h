// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace fusednn {

// What a backend learns while a list runs again and again: whether a team is faster than one thread.
// It belongs to whoever runs the list, one run at a time.
struct Pace {
  static constexpr int kRuns = 3;  // that a trial measures, each way
  enum class Phase { rest, usual_way, other_way };

  bool team = true;                      // how the list runs
  double alone_time = 0, team_time = 0;  // nanoseconds, in the latest trial; 0 before the first
  int64_t trials = 0, changes = 0;       // trials finished, and how many of them changed `team`
  Phase phase = Phase::rest;             // of the present trial
  bool doubt = false;                    // whether the latest trial spoke against `team`
  int runs = 0;                          // of this phase; negative while they warm up
  double credit = 0;                     // nanoseconds that a trial may cost by now
  double waited = 0;                     // nanoseconds in a trial without getting what it needs
  double times[kRuns] = {};
};

}  // namespace fusednn
