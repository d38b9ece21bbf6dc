// SPDX-License-Identifier: Apache-2.0
#include "cpu/pace.h"

#include <algorithm>
#include <iterator>

namespace fusednn::cpu {
namespace {

// A run that brings the data into the caches of those who need them, before any is measured.
constexpr int kWarmUp = 1;
// A trial takes place when this share of the time since the last one pays for what it may cost.
constexpr double kShare = 1.0 / 128;
// What a trial costs at least: threads may have to be woken for it, and put the caller aside.
constexpr double kLeastPrice = 20e3;
// It is given up after so many nanoseconds of runs that were not as wanted: somebody else has the
// pool, or the machine is too busy for a team.
constexpr double kPatience = 2e6;
// Above this, what threads tell each other is no matter, and one run alone might take a team of many
// threads the time of many runs.
constexpr double kLongest = 2e6;
// A team keeps more processors busy, so it has to be faster by so much where it did not run before.
constexpr double kGain = 0.95;
// To have a team back soon after it was disturbed, a trial of it counts as no dearer than so many runs
// alone for each of its own.
constexpr double kMostForTeam = 2;

double& time_of(Pace& pace, bool team) { return team ? pace.team_time : pace.alone_time; }

// What the runs of a trial may cost beyond what they would have taken as usual.
double price(Pace& pace, double alone) {
  const double usual = time_of(pace, pace.team), other = time_of(pace, !pace.team);
  double each = pace.trials == 0 ? alone : std::max(other - usual, 0.0);
  // A team takes several times as long only while others need the processors, which may soon be over.
  if (!pace.team) each = std::min(each, kMostForTeam * usual);
  return kLeastPrice + (kWarmUp + Pace::kRuns) * each;
}

void begin(Pace& pace, Pace::Phase phase) {
  pace.phase = phase;
  pace.runs = phase == Pace::Phase::other_way ? -kWarmUp : 0;
}

void rest(Pace& pace) {
  begin(pace, Pace::Phase::rest);
  pace.credit = pace.waited = 0;
  pace.doubt = false;
}

double median(const double (&times)[Pace::kRuns]) {
  double sorted[Pace::kRuns];
  std::copy(std::begin(times), std::end(times), sorted);
  std::sort(std::begin(sorted), std::end(sorted));
  return sorted[Pace::kRuns / 2];
}

// A change needs two trials in a row that agree: one may have met a moment when others were busy.
void decide(Pace& pace) {
  ++pace.trials;
  const bool team =
      pace.team ? pace.team_time <= pace.alone_time : pace.team_time < kGain * pace.alone_time;
  if (team == pace.team) return rest(pace);
  pace.doubt = !pace.doubt;
  if (pace.doubt) return begin(pace, Pace::Phase::usual_way);
  ++pace.changes;
  pace.team = team;
  rest(pace);
}

}  // namespace

bool wants_team(const Pace& pace) {
  return pace.phase == Pace::Phase::other_way ? !pace.team : pace.team;
}

void note_run(Pace& pace, double alone, const TeamRun& run) {
  if (alone > kLongest) return;
  if (pace.phase == Pace::Phase::rest) {
    pace.credit += kShare * run.nanoseconds;
    if (pace.credit >= price(pace, alone)) begin(pace, Pace::Phase::usual_way);
    return;
  }
  if (run.team != wants_team(pace)) {
    pace.waited += run.nanoseconds;
    if (pace.waited > kPatience) rest(pace);
    return;
  }
  if (pace.runs++ < 0) return;
  pace.times[pace.runs - 1] = run.nanoseconds;
  if (pace.runs < Pace::kRuns) return;
  time_of(pace, run.team) = median(pace.times);
  if (pace.phase == Pace::Phase::usual_way) return begin(pace, Pace::Phase::other_way);
  decide(pace);
}

}  // namespace fusednn::cpu
