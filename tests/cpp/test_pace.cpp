// SPDX-License-Identifier: Apache-2.0
// How a list that runs again and again finds out whether a team pays: on machines that are made up,
// whose time is what the runs say they took.
#include "cpu/pace.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>

using namespace fusednn;

namespace {

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

constexpr double kMillisecond = 1e6, kSecond = 1e9;

// What a run takes alone and with a team, in nanoseconds, at a time since the beginning.
struct Machine {
  std::function<double(double now)> alone, team;
  std::function<bool(double now)> has_team = [](double) { return true; };
};

std::function<double(double)> always(double nanoseconds) {
  return [=](double) { return nanoseconds; };
}

struct Play {
  Pace pace;
  double now = 0;
  double best = 0;  // what the same runs take when each goes the faster way

  void run(const Machine& machine, double estimate) {
    const bool team = cpu::wants_team(pace) && machine.has_team(now);
    const double alone_time = machine.alone(now), team_time = machine.team(now);
    const double taken = team ? team_time : alone_time;
    best += machine.has_team(now) ? std::fmin(alone_time, team_time) : alone_time;
    now += taken;
    cpu::note_run(pace, estimate, {team, taken});
  }
  void run_until(double end, const Machine& machine, double estimate) {
    while (now < end) run(machine, estimate);
  }
  double overhead() const { return now / best - 1; }
};

void a_team_that_pays_stays() {
  Play play;
  const Machine good{always(48e3), always(32e3)};
  play.run_until(2 * kSecond, good, 60e3);
  check(play.pace.team && play.pace.changes == 0, "a faster team stays");
  check(play.pace.trials > 20, "it is tried again and again");
  check(play.pace.alone_time == 48e3 && play.pace.team_time == 32e3, "both times are known");
  check(play.overhead() > 0 && play.overhead() < 0.01, "trials cost little");
}

void a_team_that_does_not_pay_goes() {
  Play play;
  const Machine bad{always(48e3), always(73e3)};
  while (play.pace.team) play.run(bad, 60e3);
  check(play.now < 200 * kMillisecond, "a slower team goes soon");
  play.now = play.best = 0;
  play.run_until(2 * kSecond, bad, 60e3);
  check(!play.pace.team && play.pace.changes == 1, "and does not come back");
  check(play.overhead() > 0 && play.overhead() < 0.01, "trials cost little");
}

void the_machine_changes() {
  Play play;
  const auto good_now = [](double now) { return std::fmod(now, 2 * kSecond) < kSecond; };
  const Machine moody{always(48e3), [&](double now) { return good_now(now) ? 32e3 : 73e3; }};
  play.run_until(20 * kSecond, moody, 60e3);
  check(play.pace.changes == 19 || play.pace.changes == 20, "each change is followed");
  check(play.overhead() < 0.04, "within a few percent of a second");
}

// A team that is hardly faster stays where it is and does not come where it is not.
void no_flapping() {
  for (const bool team : {true, false}) {
    Play play;
    play.pace.team = team;
    play.run_until(kSecond, {always(50e3), always(49e3)}, 60e3);
    check(play.pace.trials > 10 && play.pace.changes == 0, "a tie changes nothing");
  }
  Play play;
  play.run_until(kSecond, {always(50e3), always(51e3)}, 60e3);
  check(!play.pace.team && play.pace.changes == 1, "a team that gains nothing is let go");
}

// One run in twenty is held up by the system for a hundred times its length.
void disturbances() {
  Play play;
  int n = 0;
  const auto disturbed = [&](double usual) {
    return [&n, usual](double) { return ++n % 20 == 0 ? 100 * usual : usual; };
  };
  play.run_until(10 * kSecond, {disturbed(48e3), disturbed(32e3)}, 60e3);
  check(play.pace.trials > 20 && play.pace.changes == 0, "outliers decide nothing");
}

// Others take a processor for 5 ms in every 100: hardly any time is spent alone because of it.
void busy_moments() {
  Play play;
  const auto busy = [](double now) {
    return std::fmod(now, 100 * kMillisecond) < 5 * kMillisecond;
  };
  play.run_until(20 * kSecond,
                 {always(300e3), [&](double now) { return busy(now) ? 1500e3 : 160e3; }}, 300e3);
  check(play.pace.team, "a disturbed team comes back");
  check(play.overhead() < 0.08, "and most runs have it");
}

void many_threads() {
  Play play;  // a trial alone takes 30 times as long
  play.run_until(5 * kSecond, {always(900e3), always(30e3)}, 1000e3);
  check(play.pace.team && play.pace.trials >= 2, "tried");
  check(play.overhead() < 0.01, "trials cost little however many threads");
}

void long_lists_are_left_alone() {
  Play play;
  play.run_until(100 * kSecond, {always(5e6), always(6e6)}, 5e6);
  check(play.pace.team && play.pace.trials == 0, "long lists run as a team");
}

void without_a_team() {
  Play play;
  Machine machine{always(48e3), always(32e3), [](double) { return false; }};
  play.run_until(kSecond, machine, 60e3);
  check(play.pace.team && play.pace.trials == 0, "no decision without measurement");
  // The team comes late: not while the first trial waits for it.
  machine.has_team = [](double now) { return now > 1.5 * kSecond; };
  play.run_until(2 * kSecond, machine, 60e3);
  check(play.pace.team && play.pace.trials > 0, "tried once it is there");
}

}  // namespace

int main() {
  a_team_that_pays_stays();
  a_team_that_does_not_pay_goes();
  the_machine_changes();
  no_flapping();
  disturbances();
  busy_moments();
  many_threads();
  long_lists_are_left_alone();
  without_a_team();
  std::printf("pace: done\n");
  return 0;
}
