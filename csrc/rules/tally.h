// SPDX-License-Identifier: Apache-2.0
// What metrics count: levels of an element, classes of a row, moments of a column.
#pragma once

#include <stdint.h>

#include "core/dtype.h"
#include "core/hd.h"

namespace fusednn::rules {

constexpr Index kMoments = 4;  // of a column

// The number of ascending thresholds that are less than x; NaN exceeds none.
FNN_HD Index level_of(double x, const double* thresholds, Index n) {
  Index low = 0;
  while (n > 0) {
    const Index half = n / 2;
    if (x > thresholds[low + half]) {
      low += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return low;
}

FNN_HD bool is_positive(double target) { return target > 0.5; }

// Where a level is counted; there are n + 1 of them.
FNN_HD Index level_place(Index group, bool positive, Index level, Index n) {
  return (group * 2 + positive) * (n + 1) + level;
}

FNN_HD double moment(Index which, double x, double target) {
  const double error = x - target;
  return which == 0 ? 1 : which == 1 ? target : which == 2 ? target * target : error * error;
}

// Whether a, at place i, comes before b, at place j, where the greatest come first. NaN comes last.
FNN_HD bool precedes(double a, Index i, double b, Index j) {
  if (!(a == a)) return !(b == b) && i < j;
  return !(b == b) || a > b || (a == b && i < j);
}

// Rows whose counts are added up on their own. More where there are many counts, so that to bring
// them together costs no more than the rows.
FNN_HD Index tally_rows(Index counts, Index cols) {
  constexpr Index kLeast = 512;
  const Index wanted = cols > 0 ? counts / cols : 0;
  return wanted > kLeast ? wanted : kLeast;
}

}  // namespace fusednn::rules
