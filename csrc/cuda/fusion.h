// SPDX-License-Identifier: Apache-2.0
// Finds dense layers that follow each other in a list of commands and puts one launch in the place of
// each such row (kernels/fused_chain.h). The engine does not know of it: it marks results that nobody but
// the list reads (Command::inner), and those need not be written.
//
//   forward    DenseForward commands next to each other, each of which reads the y of the one before.
//   backward   DenseBackwardInput and DenseBackwardWeights of layers that follow each other. If the list
//              has their forward commands as well, values between the layers are computed again from
//              what the lowest one reads, and then the forward launch need not write them either.
//
// What is fused follows from shapes and from how much shared memory a block may have, never from data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/kernels/fused_chain.h"

namespace fusednn::cuda {

// Where a launch is expected to be faster, unless somebody says otherwise: for tests and measurements.
enum class Fusing { never, where_faster, always };
void set_fusing(Fusing fusing);

// How many launches the host has made, those of graphs that run again not counted.
uint64_t fused_launches();

class Fusion {
 public:
  // What runs next: a command of the list, or a launch.
  struct Step {
    int command = -1;   // -1: none
    int forward = -1;   // place in forwards()
    int backward = -1;  // likewise
  };

  // The commands must live as long as this. `shared_bytes` is what a block may have, `workspace` what
  // there is for launches.
  Fusion(const Command* commands, int n, int shared_bytes, size_t workspace = SIZE_MAX);

  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<FusedForward>& forwards() const { return forwards_; }
  const std::vector<FusedBackward>& backwards() const { return backwards_; }

  size_t workspace() const;
  double nanoseconds(const Step& launch) const;  // roughly
  void run(const Step& launch, const Context& context) const;

 private:
  std::vector<Step> steps_;
  std::vector<FusedForward> forwards_;
  std::vector<FusedBackward> backwards_;
};

}  // namespace fusednn::cuda
