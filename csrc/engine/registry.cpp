// SPDX-License-Identifier: Apache-2.0
#include "engine/registry.h"

#include <stdexcept>

#include "cpu/backend.h"

namespace fusednn::engine {

const Backend& find_backend(const std::string& name) {
  if (name == "cpu") return cpu::backend();
  if (name == "cuda") {
    throw std::invalid_argument(
        "device 'cuda' is not available: this version of fusednn has no CUDA backend yet; "
        "use device='cpu' or 'auto'");
  }
  throw std::invalid_argument("device '" + name + "' is unknown; known: cpu, cuda");
}

std::vector<std::string> backend_names() { return {"cpu"}; }

}  // namespace fusednn::engine
