// SPDX-License-Identifier: Apache-2.0
// Parameters of the random affine transforms of images.
#pragma once

#include <stdint.h>

namespace fusednn {

struct Interval {
  double low = 0, high = 0;
};

// What is drawn for each image. Applied to its pixels as seen from the centre, the order is zoom, turn,
// flip, shift.
struct RandomAffine {
  bool flip_down = false, flip_right = false;  // each with probability 1/2
  Interval angle;                              // in radians, counter-clockwise
  Interval tall{1, 1}, wide{1, 1};  // how much of the image is seen, as a factor; 2: twice as much
  bool same_zoom = false;           // wide is what tall is
  Interval down, right;             // shifts in pixels
  // Not the above: a window as large as the output, at any whole place of the image alike.
  bool window = false;
};

// What stands for pixels outside of an image of "abcd".
//   reflect   dcba|abcd|dcba
//   wrap      abcd|abcd|abcd
//   constant  a fill value
//   nearest   aaaa|abcd|dddd
enum class FillMode : int32_t { reflect, wrap, constant, nearest };

}  // namespace fusednn
