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
  ConstMatrix(const void* d, Index s) : data(d), stride(s) {}
  ConstMatrix(Matrix m) : data(m.data), stride(m.stride) {}
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

constexpr int kMaxStates = 3;      // tensors of optimizer state per parameter
constexpr int kMaxConstants = 12;  // numbers that a rule's prepare() leaves for its update()
constexpr int kMaxHyper = 5;       // hyper-parameters of a rule
constexpr int kMaxScalars =
    2;  // numbers beside a tensor: the count of its steps, the rule's memory

// What all tensors of one group share during one step. The host rewrites it before each step, so a
// recorded command always reads the present learning rate.
struct UpdateGroup {
  double constants[kMaxConstants] = {};  // the rule's Constants, flat
  double gradient_scale = 1;             // -1 maximises; 1 / loss scale undoes loss scaling
  double clip_value = kInfinity;         // gradients are limited to [-clip_value, clip_value]
  double l2 = 0;                         // coupled weight decay: g += l2 * p
  double l1 = 0;                         // g += l1 * sign(p)
  double shrink = 0;     // decoupled weight decay: p -= shrink * p, shrink = lr * decay
  double ema_decay = 0;  // ema = ema_decay * ema + (1 - ema_decay) * p
};

// How tensors lie in memory: as the dtype of the command, or narrower, with the arithmetic in float32
// and each result rounded to nearest even.
enum class Storage : int32_t { native, bfloat16, float16 };

// One tensor (or several adjacent ones that share a group) as the optimizer sees it.
struct UpdateTensor {
  void* parameter = nullptr;
  // Null, or the parameter in float32 where it is stored narrower: this is what the update reads and
  // changes, and the parameter becomes its rounded copy.
  float* master = nullptr;
  void* gradient = nullptr;
  void* state[kMaxStates] = {};
  void* ema = nullptr;  // null: no average is kept; float32 where the parameter is narrower
  Index n = 0;
  Index before = 0;  // elements of all tensors before it in the list: a device finds its way by it
  int32_t group = 0;
};

// coefficients[i] = min(1, max_norm / (norm_i + 1e-6)), the norm of gradient_scale * gradient, of
// each tensor alone or of all together. A norm that is not finite gives a coefficient that is not
// finite, so that the update shows it instead of hiding it.
struct ClipCoefficient {
  const UpdateTensor* tensors = nullptr;
  Index n_tensors = 0;
  Index elements = 0;  // of all tensors together
  const UpdateGroup* groups = nullptr;
  double max_norm = 0;
  Storage storage = Storage::native;
  bool global = true;              // one coefficient for all, else one per tensor
  double* coefficients = nullptr;  // one, or one per tensor
  double* norm = nullptr;          // where given: the global norm, for the log
};

// What a tensor adds to the loss: l1 |p| + l2 p² / 2 summed over its elements. The host rewrites l1
// and l2 before each step, as in UpdateGroup.
struct PenaltyTerm {
  const void* parameter = nullptr;
  Index n = 0;
  Index before = 0;  // elements of all terms before it in the list
  double l1 = 0, l2 = 0;
};

// *total += weight * the sum of all terms, in double and in an order fixed by their sizes alone.
struct Penalty {
  const PenaltyTerm* terms = nullptr;
  Index n_terms = 0;
  Index elements = 0;  // of all terms together
  double weight = 1;
  double* total = nullptr;
};

// gradient += factor * the gradient of a term.
struct PenaltyGradient {
  const PenaltyTerm* term = nullptr;
  const void* parameter = nullptr;
  void* gradient = nullptr;
  Index n = 0;
  double factor = 1;
};

// One pass over all parameters: clip, decay, update, average, clear the gradient.
struct OptimizerStep {
  int32_t rule = 0;  // place in rules::Optimizers
  Storage storage = Storage::native;
  const UpdateTensor* tensors = nullptr;
  Index n_tensors = 0;
  Index elements = 0;  // of all tensors together
  // Not 0: the first tensor is a matrix of so many rows, and at most one other goes with it.
  Index matrix_rows = 0;
  const UpdateGroup* groups = nullptr;
  const double* coefficients = nullptr;  // of ClipCoefficient, or null
  bool coefficient_per_tensor = false;
  bool clear_gradient = false;
  const float* found_inf = nullptr;  // where given and not 0, the step changes nothing
};

// What the host knows of a group whose learning rate and count of steps lie with the device.
struct UpdateRecipe {
  double hyper[kMaxHyper] = {};  // the rule's Hyper, member after member; the first is lr,
  const void* lr = nullptr;      // which is taken from here where this is given,
  bool wide_lr = false;          // as float64, else float32
  UpdateGroup group;             // without constants; `shrink` is that of lr = 1

  FNN_HD double rate() const {
    if (lr == nullptr) return hyper[0];
    return wide_lr ? *static_cast<const double*>(lr) : double(*static_cast<const float*>(lr));
  }
};

// What is kept beside one tensor, in float32: the count of its steps, then the rule's memory.
struct UpdateCounter {
  float* scalars[kMaxScalars] = {};
  int32_t recipe = 0;
};

// Counts the steps of n tensors and leaves in groups[i] what the next OptimizerStep needs for tensor i.
struct PrepareUpdate {
  int32_t rule = 0;
  int32_t convention = 0;
  Index n = 0;
  const UpdateCounter* counters = nullptr;
  const UpdateRecipe* recipes = nullptr;
  UpdateGroup* groups = nullptr;
  const float* found_inf = nullptr;   // where given and not 0, nothing is counted
  const float* loss_scale = nullptr;  // where given, what gradients are divided by

  template <class Rule>
  FNN_HD void prepare(Index i) const {
    const UpdateCounter& counter = counters[i];
    const UpdateRecipe& recipe = recipes[counter.recipe];
    typename Rule::Hyper hyper;
    __builtin_memcpy(&hyper, recipe.hyper, sizeof(hyper));
    hyper.lr = recipe.rate();
    float after[kMaxScalars] = {*counter.scalars[0] + 1};
    for (int k = 1; k <= Rule::n_memory; ++k) after[k] = *counter.scalars[k];
    UpdateGroup group = recipe.group;
    Rule::template begin_step<Rule>(hyper, convention, static_cast<int64_t>(after[0]), after + 1,
                                    group.constants);
    group.shrink *= hyper.lr;
    if (loss_scale != nullptr) group.gradient_scale /= double(*loss_scale);
    groups[i] = group;
    if (found_inf != nullptr && *found_inf != 0) return;
    for (int k = 0; k <= Rule::n_memory; ++k) *counter.scalars[k] = after[k];
  }
};

// Holds one parameter within bounds. A matrix has its columns treated one by one, a vector is a column.
//   not_negative  what is below 0 becomes 0
//   norm          a column whose norm is n is scaled to rate * clip(n, low, high) + (1 - rate) n
struct Constrain {
  enum class Bound : int32_t { not_negative, norm } bound = Bound::not_negative;
  void* parameter = nullptr;
  Index rows = 0, cols = 0;
  double low = 0, high = 0, rate = 1;
};

// Every operation. A backend implements each for every dtype, or refuses it by name.
using Operations =
    TypeList<DenseForward, DenseBackwardInput, DenseBackwardWeights, Elementary, ActivationForward,
             ActivationBackward, SoftmaxForward, SoftmaxBackward, Loss, Accuracy, Sum, Tally,
             Dropout, Rescale, Resample, MixRows, BatchNormForward, BatchNormBackward,
             LayerNormForward, LayerNormBackward, CopyRows, GatherRows, Fill, PenaltyGradient,
             ClipCoefficient, Penalty, PrepareUpdate, OptimizerStep, Constrain>;

}  // namespace fusednn
