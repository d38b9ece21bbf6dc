// SPDX-License-Identifier: Apache-2.0
// Dense layers one after the other, over memory of somebody else who keeps weights as (out, in):
// forward in one run of the backend and backward in another, which is what an autograd of somebody
// else calls.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "engine/backend.h"

namespace fusednn::engine {

struct ChainLayer {
  Index in = 0, out = 0;
  Index weight_stride = 0;  // from one row of (out, in) to the next
  ActivationSpec activation;
};

struct ChainShape {
  DType dtype = DType::float32;
  bool bfloat16 = false;  // float32 only: operands of products are rounded to it
  Index rows = 0;
  Index x_stride = 0;  // from one row of x to the next
  std::vector<ChainLayer> layers;
};

struct ChainParameters {
  const void* weight = nullptr;
  const void* bias = nullptr;  // null: none
};
struct ChainGradients {
  void* weight = nullptr;  // null: not wanted; else (out, in) without gaps
  void* bias = nullptr;
};

// The parameters and the gradients of each layer. y has no gaps between its rows, and neither have dy and dx.
struct ChainForward {
  const void* x = nullptr;
  void* kept = nullptr;  // Chain::kept() elements, written for backward(),
  bool keeps = true;     // or only room that may stay as it is
  void* y = nullptr;
  std::vector<ChainParameters> parameters;
};
struct ChainBackward {
  const void* x = nullptr;
  const void* kept = nullptr;
  const void* y = nullptr;
  const void* dy = nullptr;
  void* dx = nullptr;  // null: not wanted
  std::vector<ChainParameters> parameters;
  std::vector<ChainGradients> gradients;
};

// Any number of threads may call it at a time.
class Chain {
 public:
  Chain(const Backend& backend, ChainShape shape);
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  const ChainShape& shape() const { return shape_; }
  Index kept() const { return kept_elements_; }
  // Whether backward() computes again what lies between the layers. Then `kept` is room for a call, and
  // need not be the same one, nor what forward() has left in it.
  bool remakes() const { return remakes_; }
  bool reads_y() const;  // whether backward() does

  void forward(const ChainForward& memory) const;
  void backward(const ChainBackward& memory) const;

 private:
  // Where a layer's values lie in `kept`, in elements; -1 where they do not.
  struct Places {
    Index y = -1, z = -1;
  };
  // Which gradients are wanted, none forward: how a list of commands runs depends on nothing else.
  using Wanted = std::vector<bool>;

  const void* kept_at(const void* kept, Index place) const;
  // The first `layers` of the forward pass.
  std::vector<Command> forward_commands(const ChainForward& memory, size_t layers) const;
  ConstMatrix input_of(const ChainBackward& memory, size_t layer) const;
  ConstMatrix saved_of(const ChainBackward& memory, size_t layer) const;
  void run(const std::vector<Command>& commands, const Wanted& wanted) const;
  Schedule schedule(const std::vector<Command>& commands, const Wanted& wanted) const;

  const Backend& backend_;
  ChainShape shape_;
  std::vector<Places> places_;
  Index kept_elements_ = 0;
  Index widest_ = 0;  // of the layers between input and output
  bool remakes_ = false;

  mutable std::mutex mutex_;
  mutable std::map<Wanted, Schedule> schedules_;
};

}  // namespace fusednn::engine
