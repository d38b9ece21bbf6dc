// SPDX-License-Identifier: Apache-2.0
// Results that go around the caches. To write into a cache, the processor first reads the line; where
// so much is written that nothing of it would stay there anyway, that reading is a third or a half of
// all traffic.
#pragma once

#include "cpu/kernels/loops.h"

namespace fusednn::FNN_ISA {

// Whether a pass over so many bytes, of arguments and results together, is too long for the caches.
// What a core gets of the last one is seldom more, whoever else uses it.
FNN_HD bool past_caches(double bytes) { return bytes > double(24 << 20); }

// By how many elements p lies behind a multiple of the vector's size.
template <class T>
FNN_HD Index ahead_of_line(const T* p) {
  return Index(reinterpret_cast<uintptr_t>(p) / sizeof(T)) & (Vec<T>::size - 1);
}

// dst[i] = body(i, lanes) for every vector of elements in [begin, end), as in for_lanes(). Streams need
// aligned memory, so with them vectors begin where dst is aligned. Unless it is so at `begin`, some
// elements are computed twice: the body must be a function of i alone then.
template <class V, class Body>
FNN_HD void write_lanes(typename V::Scalar* dst, Index begin, Index end, bool streams, Body body) {
  Index i = begin;
  const Index plain = streams && end - begin > V::size ? begin + V::size : end;
  for (; i + V::size <= plain; i += V::size) body(i, V::size).store(dst + i);
  if (streams) {
    if (i > begin) i -= ahead_of_line(dst + i);
    for (; i + V::size <= end; i += V::size) body(i, V::size).stream(dst + i);
  }
  if (i < end) body(i, int(end - i)).store(dst + i, int(end - i));
}

// At the end of what may have streamed, before another thread reads it.
FNN_HD void finish_streams(bool streams) {
  if (streams) native::finish_streams();
}

}  // namespace fusednn::FNN_ISA
