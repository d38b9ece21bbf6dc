// SPDX-License-Identifier: Apache-2.0
// What a batch goes through on its way into a network: other units, random transforms of its images,
// mixtures of its samples.
#include "cpu/kernels/loops.h"
#include "cpu/kernels/table.h"
#include "rules/resample.h"

namespace fusednn::FNN_ISA {
namespace {

template <class From, class T>
void rescale(const Rescale& op, const cpu::Range& mine) {
  const From* x = static_cast<const From*>(op.x);
  T* y = static_cast<T*>(op.y);
  const T scale = T(op.scale), offset = T(op.offset);
  if (op.accumulate) {
    for (Index i = mine.begin; i < mine.end; ++i) y[i] += fma(T(x[i]), scale, offset);
  } else {
    for (Index i = mine.begin; i < mine.end; ++i) y[i] = fma(T(x[i]), scale, offset);
  }
}

// One image on its way through a transform.
template <class T>
struct Image {
  const T* x;
  rules::ImageSize size;
  Index channels;
  FillMode mode;
  T fill;

  FNN_HD Index row(Index i) const { return rules::folded(i, size.height, mode); }
  FNN_HD Index column(Index j) const { return rules::folded(j, size.width, mode); }
  FNN_HD T pixel(Index i, Index j, Index c) const {
    return i < 0 || j < 0 ? fill : x[(i * size.width + j) * channels + c];
  }

  FNN_HD void take_nearest(double i, double j, T* y) const {
    const Index row_i = row(rules::whole_below(i + 0.5));
    const Index column_j = column(rules::whole_below(j + 0.5));
    for (Index c = 0; c < channels; ++c) y[c] = pixel(row_i, column_j, c);
  }
  FNN_HD void take_linear(double i, double j, T* y) const {
    const Index above = rules::whole_below(i), before = rules::whole_below(j);
    const T down = T(i - double(above)), right = T(j - double(before));
    const Index rows[] = {row(above), row(above + 1)};
    const Index columns[] = {column(before), column(before + 1)};
    for (Index c = 0; c < channels; ++c) {
      const T upper =
          rules::between(pixel(rows[0], columns[0], c), pixel(rows[0], columns[1], c), right);
      const T lower =
          rules::between(pixel(rows[1], columns[0], c), pixel(rows[1], columns[1], c), right);
      y[c] = rules::between(upper, lower, down);
    }
  }
};

template <class T, bool kLinear>
void resample(const Image<T>& image, const rules::Affine& a, rules::ImageSize out, T* y) {
  for (Index i = 0; i < out.height; ++i) {
    const double top = a.top + a.yy * double(i), left = a.left + a.xy * double(i);
    for (Index j = 0; j < out.width; ++j, y += image.channels) {
      const double from_i = top + a.yx * double(j), from_j = left + a.xx * double(j);
      if (kLinear) {
        image.take_linear(from_i, from_j, y);
      } else {
        image.take_nearest(from_i, from_j, y);
      }
    }
  }
}

}  // namespace

template <class T>
void run(const Rescale& op, const Context& context) {
  const cpu::Range mine = share_lines<T>(op.n, context);
  if (op.bytes) {
    rescale<uint8_t, T>(op, mine);
  } else {
    rescale<T, T>(op, mine);
  }
}

template <class T>
Demand demand(const Rescale& op, int) {
  return {0.1 * double(op.n), 0};
}

template <class T>
void run(const Resample& op, const Context& context) {
  const rules::ImageSize in{op.height, op.width}, out{op.out_height, op.out_width};
  Image<T> image{static_cast<const T*>(op.x), in, op.channels, op.fill_mode, T(op.fill_value)};
  const Index taken = in.height * in.width * op.channels;
  const Index made = out.height * out.width * op.channels;
  const cpu::Range mine = share(op.rows, context);
  for (Index row = mine.begin; row < mine.end; ++row) {
    image.x = static_cast<const T*>(op.x) + row * taken;
    T* y = static_cast<T*>(op.y) + row * made;
    const rules::Affine a =
        op.step == nullptr
            ? rules::middle(in, out)
            : rules::affine_of(op.random, rules::sample_words(row, *op.step, op.stream, op.seed),
                               in, out);
    if (op.linear) {
      resample<T, true>(image, a, out, y);
    } else {
      resample<T, false>(image, a, out, y);
    }
  }
}

template <class T>
Demand demand(const Resample& op, int) {
  const double pixels = double(op.rows * op.out_height * op.out_width);
  const double channels = double(op.channels);
  return {pixels * (op.linear ? 4 + 3 * channels : 3 + channels) + 100.0 * double(op.rows), 0};
}

template <class T>
void run(const MixRows& op, const Context& context) {
  using V = Vec<T>;
  const T* x = static_cast<const T*>(op.x);
  T* y = static_cast<T*>(op.y);
  const cpu::Range mine = share(op.rows, context);
  for (Index row = mine.begin; row < mine.end; ++row) {
    const rules::Mixture mixture =
        rules::mixture_of(row, op.rows, op.alpha, *op.step, op.stream, op.seed);
    const T *own = x + row * op.cols, *other = x + mixture.partner * op.cols;
    const V share_of_own(mixture.share);
    for_lanes<V>(0, op.cols, [&](Index j, int lanes) FNN_INLINE {
      rules::between(V::load(other + j, lanes), V::load(own + j, lanes), share_of_own)
          .store(y + row * op.cols + j, lanes);
    });
  }
}

template <class T>
Demand demand(const MixRows& op, int) {
  return {0.1 * sizeof(T) * double(op.rows * op.cols) + 200.0 * double(op.rows), 0};
}

// clang-format off
template void run<float>(const Rescale&, const Context&);
template void run<double>(const Rescale&, const Context&);
template void run<float>(const Resample&, const Context&);
template void run<double>(const Resample&, const Context&);
template void run<float>(const MixRows&, const Context&);
template void run<double>(const MixRows&, const Context&);
template Demand demand<float>(const Rescale&, int);
template Demand demand<double>(const Rescale&, int);
template Demand demand<float>(const Resample&, int);
template Demand demand<double>(const Resample&, int);
template Demand demand<float>(const MixRows&, int);
template Demand demand<double>(const MixRows&, int);
// clang-format on

}  // namespace fusednn::FNN_ISA
