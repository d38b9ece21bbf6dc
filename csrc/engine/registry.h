// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "engine/backend.h"

namespace fusednn::engine {

// The backend of a device by name; std::invalid_argument says which there are and why others are not.
const Backend& find_backend(const std::string& name);
std::vector<std::string> backend_names();

}  // namespace fusednn::engine
