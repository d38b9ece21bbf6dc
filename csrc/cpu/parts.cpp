// SPDX-License-Identifier: Apache-2.0
#include "cpu/parts.h"

#include <algorithm>
#include <new>
#include <type_traits>

namespace fusednn::cpu {
namespace {

// A product with so few rows is computed in another order (kernels/gemm_dots.h) or simply badly.
constexpr Index kLeastRows = 8;
// Above this many rows of a batch, its gradients of weights are added up in an order that depends on
// their shape.
constexpr Index kMostRows = 1024;

Cut along_batch(Index rows) { return {Cut::Along::batch, rows, 1}; }

// ---- along what ----------------------------------------------------------------------------------

template <class Op>
Cut cut_of(const Op&) {
  return {};
}
Cut cut_of(const DenseForward& op) { return along_batch(op.rows); }
Cut cut_of(const DenseBackwardInput& op) { return along_batch(op.rows); }
Cut cut_of(const Loss& op) { return along_batch(op.rows); }
Cut cut_of(const Accuracy& op) { return along_batch(op.rows); }
Cut cut_of(const SoftmaxForward& op) { return along_batch(op.rows); }
Cut cut_of(const SoftmaxBackward& op) { return along_batch(op.rows); }
Cut cut_of(const LayerNormForward& op) { return along_batch(op.rows); }
Cut cut_of(const CopyRows& op) { return along_batch(op.rows); }
Cut cut_of(const GatherRows& op) { return along_batch(op.rows); }
Cut cut_of(const DenseBackwardWeights& op) {
  if (op.rows > kMostRows || op.transposed || op.bfloat16 || op.dw.data == nullptr) return {};
  return {Cut::Along::parameter, op.in, kLeastRows};
}
Cut cut_of(const OptimizerStep& op) {
  if (op.matrix_rows == 0 || op.storage != Storage::native) return {};
  return {Cut::Along::parameter, op.matrix_rows, kLeastRows};
}

// ---- parts ---------------------------------------------------------------------------------------

struct Taker {
  Range rows;
  size_t element;          // bytes
  unsigned char* tensors;  // room for two

  Index count() const { return rows.end - rows.begin; }

  template <class Pointer>
  void skip_bytes(Pointer& data, size_t bytes) const {
    using Byte =
        std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const char, char>;
    if (data != nullptr) data = reinterpret_cast<Pointer>(reinterpret_cast<Byte*>(data) + bytes);
  }
  template <class Pointer>
  void skip(Pointer& data, Index elements) const {
    skip_bytes(data, static_cast<size_t>(elements) * element);
  }
  void skip(Matrix& m) const { skip(m.data, rows.begin * m.stride); }
  void skip(ConstMatrix& m) const { skip(m.data, rows.begin * m.stride); }
  void skip(Target& target) const {
    skip(target.dense);
    if (target.labels != nullptr) target.labels += rows.begin;
  }

  template <class Op>
  void take(Op&) const {}
  void take(DenseForward& op) const {
    skip(op.x);
    skip(op.y);
    skip(op.z);
    op.rows = count();
  }
  void take(DenseBackwardInput& op) const {
    skip(op.dz);
    skip(op.dx);
    skip(op.saved);
    op.rows = count();
  }
  void take(Loss& op) const {
    skip(op.x);
    skip(op.target);
    skip(op.sample_weight, rows.begin);
    skip(op.gradient);
    skip(op.values, rows.begin);
    op.rows = count();
  }
  void take(Accuracy& op) const {
    skip(op.x);
    skip(op.target);
    skip(op.sample_weight, rows.begin);
    skip(op.values, rows.begin);
    op.rows = count();
  }
  void take(SoftmaxForward& op) const {
    skip(op.x);
    skip(op.y);
    op.rows = count();
  }
  void take(SoftmaxBackward& op) const {
    skip(op.y);
    skip(op.dy);
    skip(op.dx);
    op.rows = count();
  }
  void take(LayerNormForward& op) const {
    skip(op.x);
    skip(op.y);
    skip(op.mean, rows.begin);
    skip(op.inverse_deviation, rows.begin);
    op.rows = count();
  }
  void take(CopyRows& op) const {
    skip(op.src);
    skip(op.dst);
    op.rows = count();
  }
  void take(GatherRows& op) const {
    const size_t bytes = static_cast<size_t>(rows.begin * op.row_bytes);
    if (op.order != nullptr) {
      op.order += rows.begin;
    } else {
      skip_bytes(op.src, bytes);
    }
    skip_bytes(op.dst, bytes);
    op.rows = count();
  }
  // What belongs to the whole parameter goes with its first row.
  void take(DenseBackwardWeights& op) const {
    skip(op.x.data, rows.begin);
    skip(op.dw);
    op.in = count();
    if (rows.begin > 0 || op.in == 0) op.dbias = nullptr;
  }
  void take(OptimizerStep& op) const {
    const UpdateTensor* whole = op.tensors;
    const Index columns = whole[0].n / op.matrix_rows;
    auto* own = reinterpret_cast<UpdateTensor*>(tensors);
    UpdateTensor& matrix = *new (own) UpdateTensor(whole[0]);
    const Index first = rows.begin * columns;
    skip(matrix.parameter, first);
    skip(matrix.gradient, first);
    for (void*& state : matrix.state) skip(state, first);
    skip(matrix.ema, first);
    matrix.n = count() * columns;
    if (rows.begin > 0 || count() == 0) op.n_tensors = 1;
    if (op.n_tensors == 2) new (own + 1) UpdateTensor(whole[1]);
    op.tensors = own;
  }
};

// ---- from the place of an operation to its type --------------------------------------------------

template <class Op>
Cut cut_arguments(const unsigned char* arguments) {
  return cut_of(*reinterpret_cast<const Op*>(arguments));
}

template <class Op>
void take_arguments(const unsigned char* whole, unsigned char* part, const Taker& taker) {
  Op& op = *new (part) Op(*reinterpret_cast<const Op*>(whole));
  taker.take(op);
}

template <class List>
struct Tables;
template <class... Ops>
struct Tables<TypeList<Ops...>> {
  static constexpr Cut (*cut[])(const unsigned char*) = {&cut_arguments<Ops>...};
  static constexpr void (*take[])(const unsigned char*, unsigned char*,
                                  const Taker&) = {&take_arguments<Ops>...};
};

}  // namespace

Range Cut::part(int rank, int size) const {
  const Index granules = (rows + granule - 1) / granule;
  return {std::min(rows, granules * rank / size * granule),
          std::min(rows, granules * (rank + 1) / size * granule)};
}

Cut cut_for(const Command& command, int size) {
  if (!command.apart) return {};
  const Cut cut = Tables<Operations>::cut[command.operation](command.arguments);
  const bool too_small = cut.along == Cut::Along::batch && cut.rows < kLeastRows * size;
  return too_small ? Cut{} : cut;
}

Part::Part(const Command& whole, const Cut& cut, int rank, int size) {
  const Taker taker{cut.part(rank, size), size_of(whole.dtype), tensors};
  Tables<Operations>::take[whole.operation](whole.arguments, arguments, taker);
}

}  // namespace fusednn::cpu
