// SPDX-License-Identifier: Apache-2.0
// What a batch goes through on its way into a network: other units, random transforms of its images,
// mixtures of its samples.
#include "cuda/kernels/loops.cuh"
#include "cuda/kernels/table.h"
#include "rules/resample.h"

namespace fusednn::cuda {
namespace {

// A thread for each element, with a stride.
template <class Body>
__device__ void for_elements(Index n, Body body) {
  const Index threads = Index(gridDim.x) * blockDim.x;
  for (Index i = Index(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += threads) body(i);
}

template <class From, class T>
__global__ void __launch_bounds__(kThreads) rescale(Rescale op) {
  const From* x = static_cast<const From*>(op.x);
  T* y = static_cast<T*>(op.y);
  const T scale = T(op.scale), offset = T(op.offset);
  for_elements(op.n, [&](Index i) {
    const T value = fma(T(x[i]), scale, offset);
    y[i] = op.accumulate ? y[i] + value : value;
  });
}

template <class T>
__device__ T pixel(const Resample& op, Index row, Index i, Index j, Index channel) {
  i = rules::folded(i, op.height, op.fill_mode);
  j = rules::folded(j, op.width, op.fill_mode);
  if (i < 0 || j < 0) return T(op.fill_value);
  return static_cast<const T*>(
      op.x)[((row * op.height + i) * op.width + j) * op.channels + channel];
}

// A thread takes a pixel; those of an image draw the same words.
template <class T>
__global__ void __launch_bounds__(kThreads) resample(Resample op) {
  const rules::ImageSize in{op.height, op.width}, out{op.out_height, op.out_width};
  for_elements(op.rows * out.height * out.width, [&](Index place) {
    const Index j = place % out.width, i = place / out.width % out.height;
    const Index row = place / (out.width * out.height);
    const rules::Affine a =
        op.step == nullptr
            ? rules::middle(in, out)
            : rules::affine_of(op.random, rules::sample_words(row, *op.step, op.stream, op.seed),
                               in, out);
    const double from_i = a.top + a.yy * double(i) + a.yx * double(j);
    const double from_j = a.left + a.xy * double(i) + a.xx * double(j);
    T* y = static_cast<T*>(op.y) + place * op.channels;
    const double middle = op.linear ? 0 : 0.5;
    const Index above = rules::whole_below(from_i + middle);
    const Index before = rules::whole_below(from_j + middle);
    const T down = T(from_i - double(above)), right = T(from_j - double(before));
    for (Index c = 0; c < op.channels; ++c) {
      const auto at = [&](Index k, Index l) { return pixel<T>(op, row, above + k, before + l, c); };
      y[c] = op.linear ? rules::between(rules::between(at(0, 0), at(0, 1), right),
                                        rules::between(at(1, 0), at(1, 1), right), down)
                       : at(0, 0);
    }
  });
}

// A block takes a row.
template <class T>
__global__ void __launch_bounds__(kThreads) mix(MixRows op) {
  const Index row = blockIdx.x;
  const rules::Mixture mixture =
      rules::mixture_of(row, op.rows, op.alpha, *op.step, op.stream, op.seed);
  const T* x = static_cast<const T*>(op.x);
  T* y = static_cast<T*>(op.y) + row * op.cols;
  const T *own = x + row * op.cols, *other = x + mixture.partner * op.cols;
  for (Index j = threadIdx.x; j < op.cols; j += kThreads) {
    y[j] = rules::between(other[j], own[j], T(mixture.share));
  }
}

}  // namespace

template <class T>
void run(const Rescale& op, const Context& context) {
  launch(op.bytes ? rescale<uint8_t, T> : rescale<T, T>, blocks_for_map(op.n, context), kThreads, 0,
         context.stream, op);
}

template <class T>
void run(const Resample& op, const Context& context) {
  launch(resample<T>, blocks_for_map(op.rows * op.out_height * op.out_width, context), kThreads, 0,
         context.stream, op);
}

template <class T>
void run(const MixRows& op, const Context& context) {
  launch(mix<T>, unsigned(op.rows), kThreads, 0, context.stream, op);
}

// clang-format off
template <class T> size_t workspace(const Rescale&)  { return 0; }
template <class T> size_t workspace(const Resample&) { return 0; }
template <class T> size_t workspace(const MixRows&)  { return 0; }

template void run<float>(const Rescale&, const Context&);
template void run<double>(const Rescale&, const Context&);
template void run<float>(const Resample&, const Context&);
template void run<double>(const Resample&, const Context&);
template void run<float>(const MixRows&, const Context&);
template void run<double>(const MixRows&, const Context&);
template size_t workspace<float>(const Rescale&);
template size_t workspace<double>(const Rescale&);
template size_t workspace<float>(const Resample&);
template size_t workspace<double>(const Resample&);
template size_t workspace<float>(const MixRows&);
template size_t workspace<double>(const MixRows&);
// clang-format on

}  // namespace fusednn::cuda
