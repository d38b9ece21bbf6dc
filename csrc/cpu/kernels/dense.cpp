// SPDX-License-Identifier: Apache-2.0
// Dense layers: three matrix products, each with what belongs to it done while a block of the result
// is in cache: bias and activation, activation derivative, bias gradient.
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/gemm_bf16.h"
#include "cpu/kernels/simd.h"
#include "cpu/kernels/simd_math.h"
#include "cpu/kernels/table.h"
#include "rules/activations.h"

namespace fusednn::FNN_ISA {
namespace {

// Where the blocks of a product go after an activation or its derivative.
template <class T>
struct Epilogue {
  T* out = nullptr;
  Index out_stride = 0;
  const T* saved = nullptr;
  Index saved_stride = 0;
  bool accumulate = false;
  double parameters[kMaxParameters] = {};
};

template <class T>
struct RuleLanes {
  Vec<T> parameters[kMaxParameters];
  explicit RuleLanes(const Epilogue<T>& e) {
    for (int i = 0; i < kMaxParameters; ++i) parameters[i] = Vec<T>(e.parameters[i]);
  }
};

// Calls step(i, j, lanes) for each vector of a block; a row's last one may have fewer lanes. Full
// vectors apart from the rest, so that the compiler knows them to be full.
template <class T, class Step>
FNN_HD void for_each_vector(const Finished<T>& block, Step step) {
  constexpr int size = Vec<T>::size;
  const Index full = block.cols / size * size;
  const int rest = static_cast<int>(block.cols - full);
  for (Index i = 0; i < block.rows; ++i) {
    for (Index j = 0; j < full; j += size) step(i, j, size);
    if (rest > 0) step(i, full, rest);
  }
}

// out = activation(product)
template <class T, class Rule>
void finish_forward(const void* state, const Finished<T>& block) {
  using W = Vec<T>;
  const auto& e = *static_cast<const Epilogue<T>*>(state);
  const RuleLanes<T> rule(e);
  T* out = e.out + block.row * e.out_stride + block.col;
  for_each_vector(block, [&](Index i, Index j, int lanes) __attribute__((always_inline)) {
    const W z = W::load(block.product + i * block.stride + j, lanes);
    Rule::forward(z, rule.parameters).store(out + i * e.out_stride + j, lanes);
  });
}

// out (+)= product * activation'(saved)
template <class T, class Rule>
void finish_derivative(const void* state, const Finished<T>& block) {
  using W = Vec<T>;
  const auto& e = *static_cast<const Epilogue<T>*>(state);
  const RuleLanes<T> rule(e);
  const T* saved = e.saved + block.row * e.saved_stride + block.col;
  T* out = e.out + block.row * e.out_stride + block.col;
  for_each_vector(block, [&](Index i, Index j, int lanes) __attribute__((always_inline)) {
    const W kept = W::load(saved + i * e.saved_stride + j, lanes);
    const W slope = Rule::derivative(kept, rule.parameters);
    W g = W::load(block.product + i * block.stride + j, lanes) * slope;
    if (e.accumulate) g = W::load(out + i * e.out_stride + j, lanes) + g;
    g.store(out + i * e.out_stride + j, lanes);
  });
}

template <class T>
struct Finish {
  using Function = void (*)(const void*, const Finished<T>&);
  Function forward, derivative;
};

template <class T, class List>
struct FinishTable;
template <class T, class... Rules>
struct FinishTable<T, TypeList<Rules...>> {
  static constexpr Finish<T> of[] = {
      {&finish_forward<T, Rules>, &finish_derivative<T, Rules>}
      ...
  };
};

constexpr int kLinear = PlaceIn<rules::Linear, rules::Activations>::value;
constexpr int kRelu = PlaceIn<rules::Relu, rules::Activations>::value;

template <class T>
void set_parameters(Epilogue<T>& e, const ActivationSpec& activation) {
  for (int i = 0; i < kMaxParameters; ++i) e.parameters[i] = activation.parameters[i];
}

template <class T>
const T* typed(const void* data) {
  return static_cast<const T*>(data);
}
template <class T>
T* typed(void* data) {
  return static_cast<T*>(data);
}

template <class T>
Product<T> product_of(const DenseForward& op, Epilogue<T>& e) {
  Product<T> p;
  p.m = op.rows;
  p.n = op.out;
  p.k = op.in;
  p.a = typed<T>(op.x.data);
  p.a_row = op.x.stride;
  p.b = typed<T>(op.w.data);
  p.b_k = op.transposed ? 1 : op.w.stride;
  p.b_col = op.transposed ? op.w.stride : 1;
  p.bias = typed<T>(op.bias);
  // The sum is left where the caller wants it or else, until the activation, in y.
  const Matrix sum = op.z.data != nullptr ? op.z : op.y;
  p.c = typed<T>(sum.data);
  p.c_row = sum.stride;
  if (op.activation.rule == kRelu && op.z.data == nullptr) {
    p.relu = true;
  } else if (op.activation.rule != kLinear || op.z.data != nullptr) {
    e.out = typed<T>(op.y.data);
    e.out_stride = op.y.stride;
    set_parameters(e, op.activation);
    p.finish = FinishTable<T, rules::Activations>::of[op.activation.rule].forward;
    p.state = &e;
  }
  return p;
}

template <class T>
Product<T> product_of(const DenseBackwardInput& op, Epilogue<T>& e) {
  Product<T> p;
  p.m = op.rows;
  p.n = op.in;
  p.k = op.out;
  p.a = typed<T>(op.dz.data);
  p.a_row = op.dz.stride;
  p.b = typed<T>(op.w.data);
  p.b_k = op.transposed ? op.w.stride : 1;
  p.b_col = op.transposed ? 1 : op.w.stride;
  p.c = typed<T>(op.dx.data);
  p.c_row = op.dx.stride;
  p.accumulate = op.accumulate;
  if (op.activation.rule == kRelu && !op.accumulate) {
    p.relu_saved = typed<T>(op.saved.data);
    p.saved_row = op.saved.stride;
  } else if (op.activation.rule != kLinear) {
    e.out = p.c;
    e.out_stride = p.c_row;
    e.saved = typed<T>(op.saved.data);
    e.saved_stride = op.saved.stride;
    e.accumulate = op.accumulate;
    set_parameters(e, op.activation);
    p.finish = FinishTable<T, rules::Activations>::of[op.activation.rule].derivative;
    p.state = &e;
  }
  return p;
}

template <class T>
Product<T> product_of(const DenseBackwardWeights& op, Epilogue<T>&) {
  const ConstMatrix& left = op.transposed ? op.dz : op.x;
  const ConstMatrix& right = op.transposed ? op.x : op.dz;
  Product<T> p;
  p.m = op.transposed ? op.out : op.in;
  p.n = op.transposed ? op.in : op.out;
  p.k = op.rows;
  p.a = typed<T>(left.data);
  p.a_row = 1;
  p.a_k = left.stride;
  p.b = typed<T>(right.data);
  p.b_k = right.stride;
  p.c = typed<T>(op.dw.data);
  p.c_row = op.dw.stride;
  p.accumulate = op.accumulate;
  if (!op.transposed) p.column_sums = typed<T>(op.dbias);
  return p;
}

// The bias gradient where multiply() does not take it: it sums its right operand only.
template <class T>
void sum_columns(const DenseBackwardWeights& op, const Context& context) {
  using W = Vec<T>;
  constexpr int kSums = 4;  // in flight, because one addition waits for the last
  constexpr Index kWidth = kSums * W::size;
  T* sums = typed<T>(op.dbias);
  const Range mine = cpu::share((op.out + kWidth - 1) / kWidth, context);
  for (Index block = mine.begin; block < mine.end; ++block) {
    const Index col = block * kWidth;
    int lanes[kSums];
    W total[kSums];
    for (int u = 0; u < kSums; ++u) {
      const Index left = op.out - col - u * W::size;
      lanes[u] = left <= 0 ? 0 : left < W::size ? int(left) : W::size;
      total[u] = op.accumulate ? W::load(sums + col + u * W::size, lanes[u]) : W(T(0));
    }
    const T* dz = typed<T>(op.dz.data) + col;
    for (Index row = 0; row < op.rows; ++row, dz += op.dz.stride) {
      for (int u = 0; u < kSums; ++u) total[u] = total[u] + W::load(dz + u * W::size, lanes[u]);
    }
    for (int u = 0; u < kSums; ++u) total[u].store(sums + col + u * W::size, lanes[u]);
  }
}

template <class T, class Op>
void run_product(const Op& op, const Context& context) {
  Epilogue<T> epilogue;
  const Product<T> product = product_of<T>(op, epilogue);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (op.bfloat16) return multiply_bf16(product, context);
  }
  multiply(product, context);
}

template <class T, class Op>
Demand demand_product(const Op& op, int threads) {
  Epilogue<T> epilogue;
  const Product<T> product = product_of<T>(op, epilogue);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (op.bfloat16) return multiply_bf16_demand(product, threads);
  }
  return multiply_demand(product, threads);
}

}  // namespace

// clang-format off
template <class T> void run(const DenseForward& op, const Context& c)         { run_product<T>(op, c); }
template <class T> void run(const DenseBackwardInput& op, const Context& c)   { run_product<T>(op, c); }
template <class T> void run(const DenseBackwardWeights& op, const Context& c) {
  const bool product = op.dw.data != nullptr;
  if (product) run_product<T>(op, c);
  if (op.dbias != nullptr && (op.transposed || !product)) sum_columns<T>(op, c);
}
template <class T> Demand demand(const DenseForward& op, int threads)         { return demand_product<T>(op, threads); }
template <class T> Demand demand(const DenseBackwardInput& op, int threads)   { return demand_product<T>(op, threads); }
template <class T> Demand demand(const DenseBackwardWeights& op, int threads) {
  if (op.dw.data == nullptr) return {0.02 * sizeof(T) * double(op.rows) * double(op.out), 0};
  return demand_product<T>(op, threads);
}

template void run<float>(const DenseForward&, const Context&);
template void run<double>(const DenseForward&, const Context&);
template void run<float>(const DenseBackwardInput&, const Context&);
template void run<double>(const DenseBackwardInput&, const Context&);
template void run<float>(const DenseBackwardWeights&, const Context&);
template void run<double>(const DenseBackwardWeights&, const Context&);
template Demand demand<float>(const DenseForward&, int);
template Demand demand<double>(const DenseForward&, int);
template Demand demand<float>(const DenseBackwardInput&, int);
template Demand demand<double>(const DenseBackwardInput&, int);
template Demand demand<float>(const DenseBackwardWeights&, int);
template Demand demand<double>(const DenseBackwardWeights&, int);
// clang-format on

}  // namespace fusednn::FNN_ISA
