// SPDX-License-Identifier: Apache-2.0
// Copies of parts of a and b in the order in which a tile reads them. Worth it where the original
// is transposed, or is read often with a stride that the caches dislike.
#pragma once

#include "cpu/kernels/simd.h"

namespace fusednn::FNN_ISA {

// One of the log2(size) steps that transpose a square of vectors: exchanges the off-diagonal blocks
// of H x H lanes in each block of 2H x 2H.
template <int H, class T, int... I>
FNN_HD void exchange(Vec<T>& x, Vec<T>& y, Indices<I...>) {
  constexpr int size = Vec<T>::size;
  const auto low = __builtin_shufflevector(x.raw, y.raw, ((I & H) ? size + I - H : I)...);
  const auto high = __builtin_shufflevector(x.raw, y.raw, ((I & H) ? size + I : I + H)...);
  x = Vec<T>(low);
  y = Vec<T>(high);
}

template <int H, class T>
FNN_HD void transpose_from(Vec<T> (&rows)[Vec<T>::size]) {
  constexpr int size = Vec<T>::size;
#pragma GCC unroll 16
  for (int i = 0; i < size; ++i) {
    if ((i & H) == 0) exchange<H>(rows[i], rows[i + H], typename IndicesUpTo<size>::Type{});
  }
  if constexpr (H > 1) transpose_from<H / 2>(rows);
}

// A matrix whose element (i, j) is data[i * stride + j].
template <class T>
struct Source {
  const T* data;
  Index stride;
};

// dst[j * dst_stride + i] = src(i, j). Up to the next multiple of the vector size, rows that do not
// exist give zeros where `pad` is set. Without it, nothing is written that is no element of the result;
// whole vectors, which are stored faster, only reach into elements that follow.
template <class T>
FNN_HD void pack_transposed(Source<T> src, Index rows, Index cols, T* dst, Index dst_stride,
                            bool pad) {
  using W = Vec<T>;
  const Index spill = (W::size - 1) / dst_stride;  // columns that a vector may reach into
  for (Index i = 0; i < rows; i += W::size) {
    const int height = rows - i < W::size ? static_cast<int>(rows - i) : W::size;
    for (Index j = 0; j < cols; j += W::size) {
      const int width = cols - j < W::size ? static_cast<int>(cols - j) : W::size;
      const T* from = src.data + i * src.stride + j;
      T* to = dst + j * dst_stride + i;
      W square[W::size];
      if (height == W::size && width == W::size) {
#pragma GCC unroll 16
        for (int r = 0; r < W::size; ++r) square[r] = W::load(from + r * src.stride);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < W::size; ++r) {
          square[r] = r < height ? W::load(from + r * src.stride, width) : W(T(0));
        }
      }
      transpose_from<W::size / 2>(square);
      const bool whole = pad || height == W::size ||
                         (rows < W::size && rows == dst_stride && j + W::size + spill <= cols);
      if (width == W::size && whole) {
#pragma GCC unroll 16
        for (int c = 0; c < W::size; ++c) square[c].store(to + c * dst_stride);
      } else {
        const int lanes = pad ? W::size : height;
#pragma GCC unroll 16
        for (int c = 0; c < W::size; ++c) {
          if (c < width) square[c].store(to + c * dst_stride, lanes);
        }
      }
    }
  }
}

// dst[i * dst_stride + j] = src(i, j), with zeros up to the next multiple of the vector size if `pad`;
// otherwise dst_stride is `cols`.
template <class T>
FNN_HD void pack_straight(Source<T> src, Index rows, Index cols, T* dst, Index dst_stride,
                          bool pad) {
  using W = Vec<T>;
  const Index full = cols / W::size * W::size;
  const int rest = static_cast<int>(cols - full);
  const Index spill =
      (W::size - rest + dst_stride - 1) / dst_stride;  // rows a vector may reach into
  const Index whole = rest == 0 ? 0 : pad ? rows : rows - spill;
  const auto copy = [&](Index i, auto store_rest) __attribute__((always_inline)) {
    const T* from = src.data + i * src.stride;
    T* to = dst + i * dst_stride;
    for (Index j = 0; j < full; j += W::size) W::load(from + j).store(to + j);
    store_rest(from + full, to + full);
  };
  Index i = 0;
  for (; i < whole; ++i) {
    copy(i, [&](const T* from, T* to)
                __attribute__((always_inline)) { W(native::load_partial(from, rest)).store(to); });
  }
  for (; i < rows; ++i) {
    copy(i, [&](const T* from, T* to) __attribute__((always_inline)) {
      if (rest > 0) W::load(from, rest).store(to, rest);
    });
  }
}

}  // namespace fusednn::FNN_ISA
