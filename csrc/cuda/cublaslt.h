// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLASLt, where somebody has it: it is loaded at run time and never needed.
//
// It takes the product and the bias. Activations, their derivatives and the gradient of the bias stay
// with our own kernels: its epilogues know few of them, and its ReLU turns a NaN into 0.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cuda/kernels/context.h"
#include "engine/backend.h"

namespace fusednn::cuda {

// Loads the first of these libraries that can be loaded, once and for all. Returns its name, or throws
// std::runtime_error that says why none can be.
std::string load_cublaslt(const std::vector<std::string>& paths);

// As 10000 * major + 100 * minor + patch, or 0 where it has not been loaded; and how many plans it has
// made, for tests.
size_t cublaslt_version();
size_t cublaslt_plans();

// Whether products go to it at all; they do unless somebody forbids it.
void allow_cublaslt(bool allowed);

// Whether the operands of float32 products may be rounded to TF32 (10 bits of mantissa, summed in
// float32), which tensor cores multiply several times faster. They are not unless somebody allows it.
void allow_tf32(bool allowed);

// The workspace that a command needs, if the library takes it; otherwise nothing.
struct ProductDemand {
  bool taken = false;
  size_t workspace = 0;
};
ProductDemand product_demand(const Command& command);

// Runs a command that product_demand() has taken.
void run_product(const Command& command, const Context& context);

}  // namespace fusednn::cuda
