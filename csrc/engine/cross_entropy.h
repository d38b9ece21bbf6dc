// SPDX-License-Identifier: Apache-2.0
// Softmax cross-entropy as torch defines it, over memory of somebody else: value and gradient in one
// run of the backend.
#pragma once

#include "engine/backend.h"

namespace fusednn::engine {

enum class Reduction { none, mean, sum };

struct CrossEntropy {
  int32_t rule = 0;  // place of the loss, whose one parameter is the label smoothing
  DType dtype = DType::float32;
  Index rows = 0, classes = 0;
  ConstMatrix logits;
  // What they are compared with: one of the two.
  const int64_t* labels = nullptr;
  ConstMatrix probabilities;
  const void* class_weight = nullptr;
  int64_t ignore_index = -100;  // rows with this label count for nothing
  double label_smoothing = 0;
  Reduction reduction = Reduction::mean;
  void* loss = nullptr;      // one number, or one per row where nothing is reduced
  void* gradient = nullptr;  // rows without gaps; null: not wanted
};

// std::out_of_range where a label is no class, and nothing has been written then. The mean is over
// the weights of the rows' labels, or over the rows where the target is probabilities.
void evaluate(const Backend& backend, const CrossEntropy& what);

}  // namespace fusednn::engine
