// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLASLt, where somebody has it: it is loaded at run time and never needed.
//
// It takes the product and the bias. Activations and their derivatives stay with our own kernels: its
// epilogues know few of them, and its ReLU turns a NaN into 0. Operands that are to be rounded to
// bfloat16 or float16 are copied into the workspace for it. Which products go to it, product_choice.h
// says.
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

// For tests and measurements: "own", "bare" or "epilogue" for all products (product_choice.h), or
// "auto", which leaves it to the table. What is in a recorded graph stays as it is there.
void set_product_way(const std::string& name);
// The name of the table's line for a product of this shape.
std::string product_class(Index m, Index n, Index k);

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
