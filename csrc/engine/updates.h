// SPDX-License-Identifier: Apache-2.0
// The operations of an optimizer, and what they read. Part of operations.h.
//
// No STL here: kernels that are compiled per instruction set include this header.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/hd.h"
#include "core/parameter.h"

namespace fusednn {

constexpr int kMaxStates = 3;      // tensors of optimizer state per parameter
constexpr int kMaxConstants = 12;  // numbers that a rule's prepare() leaves for its update()
constexpr int kMaxHyper = 5;       // hyper-parameters of a rule
constexpr int kMaxScalars =
    2;  // numbers beside a tensor: the count of its steps, the rule's memory

// What all tensors of one group share during one step. It is rewritten before each step, so a
// recorded command always reads the present learning rate.
struct UpdateGroup {
  double constants[kMaxConstants] = {};  // the rule's Constants, flat
  double gradient_scale = 1;             // -1 maximises; 1 / loss scale undoes loss scaling
  double clip_value = kInfinity;         // gradients are limited to [-clip_value, clip_value]
  double l2 = 0;                         // coupled weight decay: g += l2 * p
  double l1 = 0;                         // g += l1 * sign(p)
  double shrink = 0;         // decoupled weight decay: p -= shrink * p, shrink = lr * decay
  double ema_decay = 0;      // ema = ema_decay * ema + (1 - ema_decay) * p
  double penalty_scale = 1;  // factor of all regularisation; in l1 and l2 it is already
  uint64_t seed = 0;         // of the noise of Rounding::stochastic
  uint32_t step = 0;         // likewise: the number of this step, its low half
};

// How tensors lie in memory: as the dtype of the command, or narrower, with the arithmetic in float32
// and each result rounded to nearest even.
enum class Storage : int32_t { native, bfloat16, float16 };

// How results become bfloat16 instead: up or down at random, so that the mean is right
// (rules/rounding.h). That is for parameters without a master, and for their states.
enum class Rounding : int32_t { nearest, stochastic };

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
  uint32_t number = 0;  // among the tensors of its optimizer: each has noise of its own
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

// What a tensor adds to the loss: l1 |p| + l2 p² / 2 summed over its elements, times a scale.
struct PenaltyTerm {
  const void* parameter = nullptr;
  Index n = 0;
  Index before = 0;  // elements of all terms before it in the list
  double l1 = 0, l2 = 0;
};

// *total += weight * scale * the sum of all terms, in double and in an order fixed by their sizes alone.
struct Penalty {
  const PenaltyTerm* terms = nullptr;
  Index n_terms = 0;
  Index elements = 0;  // of all terms together
  double weight = 1;
  const double* scale = nullptr;
  double* total = nullptr;
};

// gradient += factor * scale * the gradient of a term.
struct PenaltyGradient {
  const PenaltyTerm* term = nullptr;
  const double* scale = nullptr;
  const void* parameter = nullptr;
  void* gradient = nullptr;
  Index n = 0;
  double factor = 1;
};

// One pass over all parameters: clip, decay, update, average, clear the gradient.
struct OptimizerStep {
  int32_t rule = 0;  // place in rules::Optimizers
  Storage storage = Storage::native;
  Rounding rounding = Rounding::nearest;
  const UpdateTensor* tensors = nullptr;
  Index n_tensors = 0;
  Index elements = 0;  // of all tensors together
  // Not 0: the first tensor is a matrix of so many rows, and at most one other goes with it.
  Index matrix_rows = 0;
  const UpdateGroup* groups = nullptr;
  const double* coefficients = nullptr;  // of ClipCoefficient, or null
  bool coefficient_per_tensor = false;
  bool clear_gradient = false;
  // Where given and not 0, the step changes nothing, but for the gradient if it is to be cleared.
  const float* found_inf = nullptr;
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
    group.step = static_cast<uint32_t>(after[0]);
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

// Where a run of steps is, for the commands that ask.
struct StepClock {
  uint64_t step = 0;      // training steps begun
  Index first = 0;        // first row of the present batch
  Index next = 0;         // of the one after it
  Index end = INT64_MAX;  // behind the last row that there is: then the next batch begins at row 0
  Index row = 0;          // of the table in BeginStep, for the next step

  FNN_HD void advance(Index rows, bool trains) {
    step += trains ? 1 : 0;
    first = next;
    next = first + rows < end ? first + rows : 0;
    ++row;
  }
  bool operator==(const StepClock& other) const {
    return step == other.step && first == other.first && next == other.next && end == other.end &&
           row == other.row;
  }
};

// Begins a step, where the host does not do it: moves the clock on, and brings a row of a table, which
// the host has filled for so many steps as it lets run, to where the commands of the step read it.
struct BeginStep {
  StepClock* clock = nullptr;
  Index rows = 0;                      // of the batch
  bool trains = false;                 // whether it is a training step
  const UpdateGroup* table = nullptr;  // null: there is nothing to bring
  UpdateGroup* groups = nullptr;
  Index n_groups = 0;  // in a row of the table

  // The share of one of several threads, of the row that the clock says before it is moved on.
  FNN_HD void bring(Index row, Index rank, Index size) const {
    if (table == nullptr) return;
    const UpdateGroup* from = table + row * n_groups;
    for (Index i = rank; i < n_groups; i += size) groups[i] = from[i];
  }
};

}  // namespace fusednn
