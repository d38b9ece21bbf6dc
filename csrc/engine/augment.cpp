// SPDX-License-Identifier: Apache-2.0
#include "engine/augment.h"

#include <stdexcept>

namespace fusednn::engine {
namespace {

template <size_t N>
int32_t choice(const Config& config, const std::string& key, const char* const (&names)[N]) {
  const std::string given = config.text(key, names[0]);
  std::string known;
  for (size_t i = 0; i < N; ++i) {
    if (given == names[i]) return static_cast<int32_t>(i);
    known += std::string(i > 0 ? ", " : "") + names[i];
  }
  throw std::invalid_argument(config.owner() + ": " + key + " '" + given +
                              "' is unknown; known: " + known);
}

Interval interval(const Config& config, const std::string& key, double otherwise, double factor) {
  const Interval i{config.number(key + "_low", otherwise), config.number(key + "_high", otherwise)};
  if (!(i.low <= i.high)) {
    throw std::invalid_argument(config.owner() + ": " + key + " from " + std::to_string(i.low) +
                                " to " + std::to_string(i.high) + " is no interval");
  }
  return {factor * i.low, factor * i.high};
}

Index window(const Config& config, const std::string& key, Index whole) {
  const Index size = config.integer(key);
  if (size >= 1 && size <= whole) return size;
  throw std::invalid_argument(config.owner() + ": " + key + "=" + std::to_string(size) +
                              " must lie in [1, " + std::to_string(whole) +
                              "], the size of the image");
}

}  // namespace

Resample resample_of(const Config& config, const Shape& images) {
  if (images.size() < 2 || images.size() > 3) {
    throw std::invalid_argument(config.owner() +
                                ": needs images of shape (height, width) or (height, width, "
                                "channels), got " +
                                to_string(images));
  }
  constexpr double kTurn = 6.283185307179586;
  static constexpr const char* kInterpolations[] = {"bilinear", "nearest"};
  static constexpr const char* kFillModes[] = {"reflect", "wrap", "constant", "nearest"};
  Resample op;
  op.height = op.out_height = images[0];
  op.width = op.out_width = images[1];
  op.channels = images.size() == 3 ? images[2] : 1;
  op.linear = choice(config, "interpolation", kInterpolations) == 0;
  op.fill_mode = static_cast<FillMode>(choice(config, "fill_mode", kFillModes));
  op.fill_value = config.number("fill_value", 0);
  RandomAffine& random = op.random;
  random.flip_down = config.flag("flip_down", false);
  random.flip_right = config.flag("flip_right", false);
  random.angle = interval(config, "turns", 0, kTurn);
  random.down = interval(config, "down", 0, static_cast<double>(op.height));
  random.right = interval(config, "right", 0, static_cast<double>(op.width));
  random.tall = interval(config, "tall", 1, 1);
  random.wide = interval(config, "wide", 1, 1);
  random.same_zoom = config.flag("same_zoom", false);
  if (!(random.tall.low > 0 && random.wide.low > 0)) {
    throw std::invalid_argument(config.owner() + ": tall and wide must be positive");
  }
  if (config.has("height")) {
    random.window = true;
    op.linear = false;
    op.out_height = window(config, "height", op.height);
    op.out_width = window(config, "width", op.width);
  }
  return op;
}

Shape output_of(const Resample& op, const Shape& images) {
  Shape shape = images;
  shape[0] = op.out_height;
  shape[1] = op.out_width;
  return shape;
}

}  // namespace fusednn::engine
