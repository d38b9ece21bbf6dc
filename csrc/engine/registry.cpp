// SPDX-License-Identifier: Apache-2.0
#include "engine/registry.h"

#include <atomic>
#include <stdexcept>

#include "cpu/backend.h"

namespace fusednn::engine {
namespace {

std::atomic<const Backend*> cuda{nullptr};

}  // namespace

const Backend& find_backend(const std::string& name) {
  if (name == "cpu") return cpu::backend();
  if (name == "cuda") {
    if (const Backend* backend = cuda) return *backend;
    throw std::invalid_argument("device 'cuda' is not there: no CUDA backend has been registered");
  }
  throw std::invalid_argument("device '" + name + "' is unknown; known: cpu, cuda");
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names{"cpu"};
  if (cuda != nullptr) names.push_back("cuda");
  return names;
}

void register_backend(const BackendExport& exported, const std::string& version) {
  if (exported.version != version || exported.fingerprint != fingerprint_of(Operations{})) {
    throw std::runtime_error(
        "the CUDA backend is of another build of fusednn than the rest of it; install both from "
        "one "
        "wheel");
  }
  cuda = exported.backend;
}

}  // namespace fusednn::engine
