// SPDX-License-Identifier: Apache-2.0
// Random transforms of images, for the layer and for arrays outside of networks.
#pragma once

#include "engine/backend.h"
#include "engine/config.h"

namespace fusednn::engine {

// The operation on images of this shape, (height, width) or (height, width, channels), but for rows and
// memory; std::invalid_argument where the two do not fit. Shifts are given in shares of the image.
Resample resample_of(const Config& config, const Shape& images);
Shape output_of(const Resample& op, const Shape& images);

}  // namespace fusednn::engine
