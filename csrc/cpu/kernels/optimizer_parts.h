// SPDX-License-Identifier: Apache-2.0
// How the optimizer step cuts tensors up: pieces of fixed size, which are shared out among threads, so
// sums over a tensor have the same order for any number of them; and the parts of a piece that a rule
// sees at a time, copies where tensors are stored in a narrower type than that of the arithmetic.
#pragma once

#include "cpu/kernels/context.h"
#include "cpu/kernels/loops.h"
#include "cpu/kernels/storage.h"

namespace fusednn::FNN_ISA {

constexpr Index kPiece = 4096;

struct Piece {
  Index tensor;
  Index begin, end;  // elements of that tensor
  Index number;      // among the pieces of all tensors
  Index first, n;    // the numbers of all pieces of that tensor
};

FNN_HD Index pieces_of(const UpdateTensor& t) { return (t.n + kPiece - 1) / kPiece; }

inline Index count_pieces(const UpdateTensor* tensors, Index n_tensors) {
  Index n = 0;
  for (Index i = 0; i < n_tensors; ++i) n += pieces_of(tensors[i]);
  return n;
}

// body(piece) for this thread's share of the work. A piece counts by its elements and by a constant,
// so that a thousand small tensors weigh as much as they cost.
template <class Body>
FNN_HD void for_pieces(const UpdateTensor* tensors, Index n_tensors, const cpu::Context& context,
                       Body body) {
  constexpr Index overhead = 256;
  constexpr Index weight = kPiece + overhead;
  Index total = 0;
  for (Index i = 0; i < n_tensors; ++i) total += tensors[i].n + overhead * pieces_of(tensors[i]);
  const cpu::Range mine = cpu::share(total, context);

  Index place = 0;  // of the tensor's first piece, by weight: whoever owns the start owns the piece
  Index number = 0;
  for (Index i = 0; i < n_tensors && place < mine.end; ++i) {
    const Index n = pieces_of(tensors[i]);
    Index k = mine.begin > place ? (mine.begin - place + weight - 1) / weight : 0;
    for (; k < n && place + k * weight < mine.end; ++k) {
      const Index begin = k * kPiece;
      const Index end = tensors[i].n - begin < kPiece ? tensors[i].n : begin + kPiece;
      body(Piece{i, begin, end, number + k, number, n});
    }
    place += tensors[i].n + overhead * n;
    number += n;
  }
}

// Part of a tensor as a rule sees it.
template <class T>
struct Part {
  T* parameter;
  T* gradient;
  T* state[kMaxStates];
  T* ema;  // or null
  Index n;
};

template <class T>
FNN_HD Part<T> as_it_lies(const UpdateTensor& t, Index begin, Index n, int n_states) {
  Part<T> part{static_cast<T*>(t.parameter) + begin,
               static_cast<T*>(t.gradient) + begin,
               {},
               t.ema ? static_cast<T*>(t.ema) + begin : nullptr,
               n};
  for (int k = 0; k < n_states; ++k) part.state[k] = static_cast<T*>(t.state[k]) + begin;
  return part;
}

// A copy of a part whose tensors are stored in a narrower type. It stays in the innermost cache from
// the first conversion to the last.
class WidePart {
 public:
  static constexpr Index kLength = 512;
  static_assert(kLength == kNoiseAhead && kPiece % kLength == 0, "noise is drawn for a whole part");

  Part<float> open(const OptimizerStep& op, const UpdateTensor& t, Index begin, Index n,
                   int n_states) {
    begin_ = begin;
    n_states_ = n_states;
    part_ = {parameter_, gradient_, {}, t.ema ? static_cast<float*>(t.ema) + begin : nullptr, n};
    if (t.master) {
      part_.parameter = t.master + begin;
    } else {
      widen(op.storage, at(t.parameter), parameter_, n);
    }
    widen(op.storage, at(t.gradient), gradient_, n);
    for (int k = 0; k < n_states; ++k) {
      part_.state[k] = state_[k];
      widen(op.storage, at(t.state[k]), state_[k], n);
    }
    return part_;
  }

  void close(const OptimizerStep& op, const UpdateTensor& t) const {
    round(op, t, part_.parameter, t.parameter, 0);
    if (op.clear_gradient) narrow(op.storage, gradient_, at(t.gradient), part_.n);
    for (int k = 0; k < n_states_; ++k) round(op, t, state_[k], t.state[k], 1 + k);
  }

 private:
  // `which` as in rules::noise_block().
  void round(const OptimizerStep& op, const UpdateTensor& t, const float* from, void* to,
             int which) const {
    if (op.rounding == Rounding::nearest) return narrow(op.storage, from, at(to), part_.n);
    const UpdateGroup& group = op.groups[t.group];
    uint16_t noise[kNoiseAhead];
    draw_noise({group.seed, group.step, t.number}, which, begin_, noise);
    round_at_random(from, at(to), part_.n, noise);
  }
  void* at(void* data) const { return static_cast<uint16_t*>(data) + begin_; }

  alignas(64) float parameter_[kLength], gradient_[kLength];
  alignas(64) float state_[kMaxStates][kLength];
  Part<float> part_;
  Index begin_;
  int n_states_;
};

// body(part) for a piece: at once where it can be used as it lies.
template <class T, class Body>
FNN_HD void for_parts(const OptimizerStep& op, const Piece& piece, int n_states, Body body) {
  const UpdateTensor& t = op.tensors[piece.tensor];
  if constexpr (sizeof(T) == sizeof(float)) {
    const bool wide = op.storage == Storage::native;
    const Index length = wide ? kPiece : WidePart::kLength;
    WidePart copy;
    for (Index i = piece.begin; i < piece.end; i += length) {
      const Index n = piece.end - i < length ? piece.end - i : length;
      body(wide ? as_it_lies<T>(t, i, n, n_states) : copy.open(op, t, i, n, n_states));
      if (!wide) copy.close(op, t);
    }
  } else {
    body(as_it_lies<T>(t, piece.begin, piece.end - piece.begin, n_states));
  }
}

}  // namespace fusednn::FNN_ISA
