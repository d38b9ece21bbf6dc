// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine/backend.h"

namespace fusednn::engine {

// What the memory is for; one call may use all of them at once.
enum class Scratch { workspace, values, count };

// Memory of the calling thread for the time of one call, kept from one to the next so that a run
// allocates nothing. What the last call left is in it.
char* scratch(const Backend& backend, Scratch use, size_t bytes);

}  // namespace fusednn::engine
