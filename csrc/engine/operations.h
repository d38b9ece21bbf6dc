// SPDX-License-Identifier: Apache-2.0
// Every operation that a backend knows, with its arguments. All memory that an operation names is the
// device's. What changes from step to step (learning rate, random position, place in the epoch) is read
// through a pointer when it runs.
//
// No STL here: kernels that are compiled per instruction set include this header.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/affine.h"
#include "core/dtype.h"
#include "core/hd.h"
#include "core/parameter.h"
#include "core/type_list.h"
#include "engine/updates.h"

namespace fusednn {

// ---- pieces of arguments ---------------------------------------------------------------------

// An activation rule, by its place in rules::Activations (0 is linear), with its hyper-parameters.
struct ActivationSpec {
  int32_t rule = 0;
  double parameters[kMaxParameters] = {};
};

// A matrix in memory: element (i, j) is data[i * stride + j].
struct Matrix {
  void* data = nullptr;
  Index stride = 0;
};
struct ConstMatrix {
  const void* data = nullptr;
  Index stride = 0;
  ConstMatrix() = default;
  constexpr ConstMatrix(const void* d, Index s) : data(d), stride(s) {}
  constexpr ConstMatrix(Matrix m) : data(m.data), stride(m.stride) {}
};

// What a loss compares with: dense values, or one class number per row. Exactly one is set.
struct Target {
  ConstMatrix dense;
  const int32_t* labels = nullptr;
};

// ---- operations ------------------------------------------------------------------------------
// `accumulate` adds to the destination instead of overwriting it (fan-out, gradient accumulation).

// Weights lie as (in, out), or as (out, in) where `transposed` is set, which is how torch keeps them.

// y = activation(x w + bias); z, where given, keeps x w + bias for rules that save their input.
struct DenseForward {
  ConstMatrix x, w;
  const void* bias = nullptr;
  Matrix y, z;
  Index rows = 0, in = 0, out = 0;
  ActivationSpec activation;
  bool transposed = false;
  bool bfloat16 = false;  // float32 only: the operands of the product are rounded to bfloat16
  // Likewise, to float16. Only devices do it, and only forward: gradients need the range of bfloat16.
  bool float16 = false;
};

// dx = (dz wᵀ) * activation'(saved), where `activation` is the rule that produced x.
struct DenseBackwardInput {
  ConstMatrix dz, w;
  Matrix dx;
  ConstMatrix saved;
  Index rows = 0, in = 0, out = 0;
  ActivationSpec activation;
  bool transposed = false;
  bool accumulate = false;
  bool bfloat16 = false;  // float32 only: the operands of the product are rounded to bfloat16
};

// dw = xᵀ dz and dbias = column sums of dz, each where given.
struct DenseBackwardWeights {
  ConstMatrix x, dz;
  Matrix dw;
  void* dbias = nullptr;
  Index rows = 0, in = 0, out = 0;
  bool transposed = false;
  bool accumulate = false;
  bool bfloat16 = false;  // float32 only: the operands of the product are rounded to bfloat16
};

// y = f(x) over n contiguous elements, for an elementary function of rules::ElementaryFunctions.
struct Elementary {
  int32_t function = 0;
  const void* x = nullptr;
  void* y = nullptr;
  Index n = 0;
};

struct ActivationForward {
  const void* x = nullptr;
  void* y = nullptr;
  Index n = 0;
  ActivationSpec activation;
};

// dx = dy * activation'(saved); saved is the input or the output, as the rule says, or always the input.
// dx may be dy.
struct ActivationBackward {
  const void* dy = nullptr;
  const void* saved = nullptr;
  void* dx = nullptr;
  Index n = 0;
  ActivationSpec activation;
  bool accumulate = false;
  bool from_input = false;
};

// Row by row: y = softmax(x), or its logarithm. y may be x.
struct SoftmaxForward {
  ConstMatrix x;
  Matrix y;
  Index rows = 0, cols = 0;
  bool log = false;
};

// dx = softmax (or log-softmax) Jacobian times dy, from the saved output y. dx may be dy.
struct SoftmaxBackward {
  ConstMatrix y, dy;
  Matrix dx;
  Index rows = 0, cols = 0;
  bool log = false;
  bool accumulate = false;
};

// Value and gradient of a loss in one pass. `rule` counts through rules::PointwiseLosses and then on
// through rules::RowwiseLosses. values[i] = weight_i * loss_i; gradient row i = weight_i * scale * dloss_i/dx.
struct Loss {
  int32_t rule = 0;
  double parameters[kMaxParameters] = {};
  ConstMatrix x;
  Target target;
  const void* sample_weight = nullptr;  // one per row
  const void* class_weight = nullptr;   // one per column, rowwise rules only
  int32_t ignore_index = INT32_MIN;     // rows with this label count for nothing
  Matrix gradient;                      // may be x itself; data null: values only
  void* values = nullptr;               // one per row
  const double* scale = nullptr;  // factor of the gradient, usually 1 / number of rows; null: 1
  Index rows = 0, cols = 0;
};

// values[i] = 1 if row i is classified rightly, else 0. With labels or one-hot rows (cols > 1) the
// greatest column decides, the first of equals; with a single column x > threshold is compared with
// target > 0.5. With top > 1 it is enough that fewer than `top` columns are greater than the target's.
struct Accuracy {
  ConstMatrix x;
  Target target;
  const void* sample_weight = nullptr;
  void* values = nullptr;
  double threshold = 0.5;
  Index rows = 0, cols = 0;
  Index top = 1;
};

// What a Tally counts. A row adds its weight, 1 where it has none.
//   levels   counts[group][target > 0.5][level], one element of x after the other: its level is the
//            number of thresholds that it exceeds. A group is a column, or there is one for all.
//   classes  counts[class of the target][class of x], the classes found as in Accuracy.
//   moments  counts[column][0 .. 3]: 1, the target, its square, and the square of x - target.
enum class Tallied : int32_t { levels, classes, moments };

// counts += what the rows of a batch add, in double and in an order fixed by the shape alone.
struct Tally {
  Tallied what = Tallied::levels;
  ConstMatrix x;
  Target target;
  const void* sample_weight = nullptr;
  const double* thresholds = nullptr;  // ascending; with classes and a single column there is one
  Index n_thresholds = 0;
  Index rows = 0, cols = 0;
  Index column = -1;        // of levels: the only one that counts; -1: all of them
  bool per_column = false;  // of levels: a group for each column
  Index top = 0;  // not 0: only so many of a row, the greatest, may exceed a threshold (levels)
  double* counts = nullptr;
  Index n_counts = 0;
};

// *total += sum of the values, in double and in an order fixed by n alone.
struct Sum {
  const void* values = nullptr;
  Index n = 0;
  double* total = nullptr;
};

// What Dropout does to an element. Each is its own backward pass, but for those that say otherwise.
//   mask      0 or x / (1 - rate)
//   alpha     a x + b, or a m + b in place of a dropped x; a, b and m keep mean and variance of SELU
//   alpha_gradient  of it: a x or 0
//   factor    x (1 + deviation n), n of the standard normal distribution
//   term      x + deviation n; its gradient is that of the identity
enum class Noise : int32_t { mask, alpha, alpha_gradient, factor, term };

// y = x with noise, from the random words of core/philox.h. y may be x.
struct Dropout {
  const void* x = nullptr;
  void* y = nullptr;
  Index n = 0;
  Noise noise = Noise::mask;
  double rate = 0;
  double deviation = 0;
  uint64_t seed = 0;
  uint32_t stream = 0;             // one per layer
  const uint64_t* step = nullptr;  // counts training steps
  bool accumulate = false;
};

// y = scale * x + offset; y may be x unless that is bytes.
struct Rescale {
  const void* x = nullptr;
  void* y = nullptr;
  Index n = 0;
  double scale = 1, offset = 0;
  bool bytes = false;  // x is of whole numbers from 0 to 255, a byte each
  bool accumulate = false;
};

// Each sample is an image of (height, width, channels) that goes through an affine transform of its own,
// drawn from the random words of rules/resample.h. y must not be x.
struct Resample {
  const void* x = nullptr;
  void* y = nullptr;
  Index rows = 0, height = 0, width = 0, channels = 0;
  Index out_height = 0, out_width = 0;
  RandomAffine random;
  bool linear = true;  // between the pixels around a place; false: the nearest one
  FillMode fill_mode = FillMode::reflect;
  double fill_value = 0;
  uint64_t seed = 0;
  uint32_t stream = 0;             // one per layer
  const uint64_t* step = nullptr;  // counts training steps; null: the window in the middle
};

// Row i of y = share * (row i of x) + (1 - share) * (another row of x), where share has the symmetric
// beta distribution of alpha. Operations with the same seed, stream and step mix alike.
struct MixRows {
  const void* x = nullptr;
  void* y = nullptr;  // not x
  Index rows = 0, cols = 0;
  double alpha = 1;
  uint64_t seed = 0;
  uint32_t stream = 0;
  const uint64_t* step = nullptr;
};

// Per column over the rows of a batch. Training: batch statistics normalise, are kept in mean and
// inverse_deviation for the backward pass, and move the running ones.
// Inference: the running statistics normalise.
struct BatchNormForward {
  ConstMatrix x;
  Matrix y;
  const void* gamma = nullptr;  // null: 1
  const void* beta = nullptr;   // null: 0
  void* running_mean = nullptr;
  void* running_variance = nullptr;
  void* mean = nullptr;
  void* inverse_deviation = nullptr;
  Index rows = 0, cols = 0;
  double momentum = 0.1;  // share of the new value
  double epsilon = 1e-5;
  bool training = true;
  bool unbiased =
      true;  // whether the variance that moves the running one is that of the population
};

// Per row. mean and inverse_deviation (one per row) are kept for the backward pass when given.
struct LayerNormForward {
  ConstMatrix x;
  Matrix y;
  const void* gamma = nullptr;
  const void* beta = nullptr;
  void* mean = nullptr;
  void* inverse_deviation = nullptr;
  Index rows = 0, cols = 0;
  double epsilon = 1e-5;
};

// Backward of both; dx, dgamma and dbeta may each be null. dx may be dy.
struct NormBackward {
  ConstMatrix x, dy;
  const void* gamma = nullptr;
  const void* mean = nullptr;
  const void* inverse_deviation = nullptr;
  Matrix dx;
  void* dgamma = nullptr;
  void* dbeta = nullptr;
  Index rows = 0, cols = 0;
  bool accumulate = false;             // into dx
  bool accumulate_parameters = false;  // into dgamma and dbeta
};
struct BatchNormBackward : NormBackward {};
struct LayerNormBackward : NormBackward {};

// dst (+)= src, row by row: copies, additions, slices of a concatenation.
struct CopyRows {
  ConstMatrix src;
  Matrix dst;
  Index rows = 0, cols = 0;
  bool accumulate = false;
};

// Row i of dst = row order[*first + i] of src. Bytes, so it serves features, targets and weights.
struct GatherRows {
  const void* src = nullptr;
  const Index* order = nullptr;  // null: consecutive rows
  const Index* first = nullptr;
  void* dst = nullptr;
  Index rows = 0;
  Index row_bytes = 0;
};

struct Fill {
  void* dst = nullptr;
  Index n = 0;
  double value = 0;
};

// Every operation. A backend implements each for every dtype, or refuses it by name.
using Operations =
    TypeList<DenseForward, DenseBackwardInput, DenseBackwardWeights, Elementary, ActivationForward,
             ActivationBackward, SoftmaxForward, SoftmaxBackward, Loss, Accuracy, Sum, Tally,
             Dropout, Rescale, Resample, MixRows, BatchNormForward, BatchNormBackward,
             LayerNormForward, LayerNormBackward, CopyRows, GatherRows, Fill, PenaltyGradient,
             ClipCoefficient, Penalty, PrepareUpdate, OptimizerStep, Constrain, BeginStep>;

}  // namespace fusednn
