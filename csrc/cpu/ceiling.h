// SPDX-License-Identifier: Apache-2.0
// Measures how fast the processor computes and moves data at most, which is what the benchmark
// compares kernels with.
#pragma once

#include "core/dtype.h"
#include "cpu/kernels/ceiling.h"

namespace fusednn::cpu {

// Floating-point operations a second (a multiply-add is two) or bytes a second that `threads` threads
// reach together, with the instruction set in use. The best of several tries within about `seconds`,
// for a ceiling is what was seen at least once. The memory ceilings use 64 MiB per array: what lies in
// a cache larger than that is measured too fast. std::invalid_argument unless threads >= 1 and
// seconds > 0.
double measure_ceiling(Ceiling ceiling, DType dtype, int threads, double seconds);

// One run of the loop of a memory ceiling over n elements of the caller's arrays: y = x (copy), or
// z = x + 0.5 y (triad). Arrays begin with a line of memory and end with one.
void run_stream(const Strain& stream, DType dtype, int threads);

// Seconds that a team of so many threads needs to wait for each other once: about as long as a line of
// memory takes from one processor to another and back. The best of a few tries, in about a
// millisecond. std::invalid_argument unless threads >= 2.
double measure_handover(int threads);

}  // namespace fusednn::cpu
