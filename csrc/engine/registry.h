// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "engine/backend.h"

namespace fusednn::engine {

// The backend of a device by name; std::invalid_argument says which there are.
const Backend& find_backend(const std::string& name);
std::vector<std::string> backend_names();

// Makes a backend known that lives in a library of its own; it stays for the life of the process. Throws
// std::runtime_error where it was built from other sources than `version`, this library's.
void register_backend(const BackendExport& exported, const std::string& version);

}  // namespace fusednn::engine
