// SPDX-License-Identifier: Apache-2.0
// Whether a list of commands that runs again and again is faster alone or with a team. That depends on
// where the system has put the processors, which may change at any time, so it is tried now and then:
// a few runs as usual, as many the other way, and the faster one stays. Bits do not depend on it.
#pragma once

#include "cpu/threads.h"
#include "engine/pace.h"

namespace fusednn::cpu {

// How the next run is wanted.
bool wants_team(const Pace& pace);

// What became of it, for a list that takes one thread about `alone` nanoseconds by estimate.
void note_run(Pace& pace, double alone, const TeamRun& run);

}  // namespace fusednn::cpu
