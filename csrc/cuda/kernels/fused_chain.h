// SPDX-License-Identifier: Apache-2.0
// Dense layers one after the other in one kernel, with everything between them on the chip: what the
// launches of fused_forward.cu and fused_backward.cu are told. fusion.cpp makes them out of commands.
#pragma once

#include "core/hd.h"
#include "cuda/kernels/context.h"
#include "engine/backend.h"

namespace fusednn::cuda {

constexpr int kFusedLayers = 12;  // of one launch at most
constexpr Index kWidest = 256;  // columns of a layer on the chip; half of that in the backward pass

// Blocks of the backward pass at most. Each leaves the gradients of its rows, so their number decides
// about bits: it follows from the shape, and is that of the multiprocessors of an H100.
constexpr Index kGradientParts = 132;
constexpr Index kGradientRows = 128;  // that a block has on the chip at a time

// A matrix of float32; data null: there is none.
struct FusedMatrix {
  float* data = nullptr;
  Index stride = 0;
  bool pairs = false;  // two neighbours of an even column may be read in one access

  FusedMatrix() = default;
  FNN_HD explicit FusedMatrix(const ConstMatrix& m)
      : data(static_cast<float*>(const_cast<void*>(m.data))),
        stride(m.stride),
        pairs(reinterpret_cast<uintptr_t>(m.data) % 8 == 0 && m.stride % 2 == 0) {}
};

struct FusedRule {
  int place = 0;  // in rules::Activations
  float parameters[kMaxParameters] = {};

  FusedRule() = default;
  explicit FusedRule(const ActivationSpec& spec) : place(spec.rule) {
    for (int i = 0; i < kMaxParameters; ++i) parameters[i] = float(spec.parameters[i]);
  }
};

// Columns on the chip are filled up with zeros to whole fragments of tensor cores.
FNN_HD constexpr int fragment_up(int n) { return (n + 15) / 16 * 16; }
// The numbers of 16 bits that a row takes there: 8 more, so that 8 rows never meet in a bank.
FNN_HD constexpr int row_halves(int columns) { return fragment_up(columns) + 8; }

struct FusedWeights {
  const float* w = nullptr;  // null: nobody multiplies by them
  Index stride = 0;
  const float* bias = nullptr;  // null: none
  bool transposed = false;
  int in = 0, out = 0;
  int weights_at = 0, bias_at = 0;  // bytes from the beginning of shared memory
};

struct FusedForwardLayer : FusedWeights {
  FusedRule rule;
  FusedMatrix y, z;  // where they are wanted by somebody else
};

struct FusedForward {
  Index rows = 0;
  int layers = 0;
  int shared_bytes = 0;
  bool float16 = false;  // what operands are rounded to; else bfloat16
  FusedMatrix x;
  FusedForwardLayer layer[kFusedLayers];
};

// Where the gradient of a layer's weights is summed up, which is in registers: several whole ones, and in
// the widest kernel one of a layer with few outputs and one of a layer with few inputs.
enum GradientPlace : int { kFewOutputs = 64, kFewInputs = 65 };
constexpr int kFew = 32;

struct FusedBackwardLayer : FusedWeights {
  // The input of the layer: from memory where it is given, else computed by the layer below.
  FusedMatrix x;
  FusedMatrix saved;  // beside a given x: what the derivative reads
  FusedRule rule;     // that made x, or linear where nobody wants the derivative
  float* dw = nullptr;
  Index dw_stride = 0;
  float* dbias = nullptr;  // null: not wanted
  bool accumulate = false;
  int place = 0;  // of the sum of dw
  int x_at = 0,
      slopes_at = -1;        // in shared memory: x, then the gradient there; the derivative there
  bool wide_slopes = false;  // they are in bfloat16 and not in float16
  int bias_sums_at = 0;      // likewise, one row for each warp
  Index part_at = 0;         // of dw and then dbias, in numbers within a part

  FNN_HD Index part_numbers() const { return Index(in) * out + out; }
};

// The layers from bottom to top. x of the lowest one is given.
struct FusedBackward {
  Index rows = 0;
  int layers = 0;
  int shared_bytes = 0;
  FusedMatrix dz;           // of the top layer
  FusedMatrix dx;           // of the lowest one, null: not wanted
  bool accumulate = false;  // into dx
  int dz_at = 0;            // in shared memory
  Index part_stride = 0;
  FusedBackwardLayer layer[kFusedLayers];

  FNN_HD Index tiles() const { return (rows + kGradientRows - 1) / kGradientRows; }
  FNN_HD Index tiles_per_part() const { return (tiles() + kGradientParts - 1) / kGradientParts; }
  FNN_HD Index parts() const { return (tiles() + tiles_per_part() - 1) / tiles_per_part(); }
  size_t workspace() const { return size_t(parts() * part_stride) * sizeof(float); }
};

// Both lay out shared memory and registers, and say whether the layers fit into so many bytes.
bool lay_out(FusedForward& chain, int shared_bytes);
bool lay_out(FusedBackward& chain, int shared_bytes);

// Whether the derivative of a rule can be told from its output rounded to bfloat16, so that it needs no
// room of its own.
bool tells_slope(int rule);

void run(const FusedForward& chain, const Context& context);
void run(const FusedBackward& chain, const Context& context);

}  // namespace fusednn::cuda
