// SPDX-License-Identifier: Apache-2.0
// The x86-64 levels are those of the psABI: a level counts only if every feature of it is there and
// the operating system saves the registers it needs.
#include "cpu/cpuid.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fusednn::cpu {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned part = 0) {
  Registers r;
  if (__get_cpuid_count(leaf, part, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

// Which register states the operating system saves; 0 where it does not say.
uint64_t saved_states() {
  constexpr unsigned osxsave = 1u << 27;
  if ((cpuid(1).ecx & osxsave) == 0) return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

bool has(uint64_t flags, uint64_t wanted) { return (flags & wanted) == wanted; }

int x86_level() {
  const Registers basic = cpuid(1), structured = cpuid(7), extended = cpuid(0x80000001u);
  const uint64_t saved = saved_states();

  constexpr unsigned sse3 = 1u << 0, ssse3 = 1u << 9, fma = 1u << 12, cmpxchg16b = 1u << 13,
                     sse41 = 1u << 19, sse42 = 1u << 20, movbe = 1u << 22, popcnt = 1u << 23,
                     avx = 1u << 28, f16c = 1u << 29;
  constexpr unsigned lahf = 1u << 0, lzcnt = 1u << 5;
  constexpr unsigned bmi1 = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8;
  constexpr unsigned avx512f = 1u << 16, avx512dq = 1u << 17, avx512cd = 1u << 28,
                     avx512bw = 1u << 30, avx512vl = 1u << 31;
  constexpr uint64_t ymm = 0x6, zmm = 0xe6;

  if (!has(basic.ecx, sse3 | ssse3 | cmpxchg16b | sse41 | sse42 | popcnt)) return 1;
  if (!has(extended.ecx, lahf)) return 1;
  if (!has(basic.ecx, fma | movbe | avx | f16c) || !has(extended.ecx, lzcnt)) return 2;
  if (!has(structured.ebx, bmi1 | avx2 | bmi2) || !has(saved, ymm)) return 2;
  if (!has(structured.ebx, avx512f | avx512dq | avx512cd | avx512bw | avx512vl)) return 3;
  return has(saved, zmm) ? 4 : 3;
}

#endif

}  // namespace

bool processor_runs(const char* isa) {
  if (strcmp(isa, "generic") == 0) return true;
#if defined(__x86_64__)
  static const int level = x86_level();
  if (strcmp(isa, "x86-64-v2") == 0) return level >= 2;
  if (strcmp(isa, "x86-64-v3") == 0) return level >= 3;
  if (strcmp(isa, "x86-64-v4") == 0) return level >= 4;
#elif defined(__aarch64__)
  if (strcmp(isa, "neon") == 0) return true;
#endif
  return false;
}

bool processor_has_bf16() {
#if defined(__x86_64__)
  constexpr unsigned avx512_bf16 = 1u << 5;
  return processor_runs("x86-64-v4") && (cpuid(7, 1).eax & avx512_bf16) != 0;
#else
  return false;
#endif
}

}  // namespace fusednn::cpu
