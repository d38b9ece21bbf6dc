// SPDX-License-Identifier: Apache-2.0
// Every kind of layer, by the function that makes it. list.cpp gives them their names.
#pragma once

#include <memory>

#include "engine/layer.h"

namespace fusednn::engine {

std::unique_ptr<Layer> make_dense(const Config& config);
std::unique_ptr<Layer> make_activation(const Config& config);
std::unique_ptr<Layer> make_softmax(const Config& config);
std::unique_ptr<Layer> make_dropout(const Config& config);
std::unique_ptr<Layer> make_alpha_dropout(const Config& config);
std::unique_ptr<Layer> make_gaussian_dropout(const Config& config);
std::unique_ptr<Layer> make_gaussian_noise(const Config& config);
std::unique_ptr<Layer> make_batch_normalization(const Config& config);
std::unique_ptr<Layer> make_layer_normalization(const Config& config);
std::unique_ptr<Layer> make_flatten(const Config& config);
std::unique_ptr<Layer> make_resample(const Config& config);
std::unique_ptr<Layer> make_rescaling(const Config& config);
std::unique_ptr<Layer> make_add(const Config& config);
std::unique_ptr<Layer> make_concatenate(const Config& config);

}  // namespace fusednn::engine
