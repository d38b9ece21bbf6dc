// SPDX-License-Identifier: Apache-2.0
// What a network runs batch by batch: a plan with all that goes around it.
#pragma once

#include <vector>

#include "engine/network.h"
#include "engine/pace.h"

namespace fusednn::engine {

// Commands that run without a look at the watcher.
struct Piece {
  int first, n;
  Schedule schedule;
  Pace pace = {};
  Recording recording = {};
};

// The commands in pieces that are not too long for Ctrl-C to wait for. The update, from command `update`
// on, is a piece of its own where there are several.
std::vector<Piece> cut(const Backend& backend, std::vector<Command>& commands, int update,
                       int max_threads);

// A plan with its feeding and updating commands around it, ready to run.
struct Network::Program {
  Program(Mode m, const PlanRequest& r, const Backend& backend)
      : mode(m), request(r), loss_scales(backend) {}

  Mode mode;
  PlanRequest request;
  Plan plan;
  std::vector<Command> commands;
  int gather = 0;  // the first of those that gather, one per array of the data set
  std::vector<UpdateTensor> tensors;  // that are updated beside their gradients, or at the end
  Mirror<double> loss_scales;         // weight / rows of the batch
  int update = 0;  // the first command that changes parameters; commands.size() when none does
  int max_threads = -1;  // what the pieces were prepared for; -1 before that
  std::vector<Piece> pieces;
  Arena workspace;
};

}  // namespace fusednn::engine
