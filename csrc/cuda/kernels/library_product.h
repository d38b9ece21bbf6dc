// SPDX-License-Identifier: Apache-2.0
// What our own kernels do before and after a product of cuBLASLt.
#pragma once

#include "cuda/kernels/context.h"
#include "engine/backend.h"

namespace fusednn::cuda {

// Rounds the rows of a float32 matrix to nearest even. The rows of `halves` begin at multiples of 16
// bytes, and their ends are filled with zeros.
void round_rows(const ConstMatrix& x, Index rows, Index cols, Storage to, const Matrix& halves,
                const Context& context);

// Adds the bias to a product that lies in op.z where that is given, else in op.y, and applies the
// activation.
void finish_forward(const DenseForward& op, DType dtype, const Context& context);

}  // namespace fusednn::cuda
