// Asked of the CPU itself: what __builtin_cpu_supports reads is not filled by the library of every compiler.
#include "cpu.h"

#include <cpuid.h>

namespace nimbed {
namespace {

constexpr unsigned kYmm = 0x06, kZmm = 0xe6;

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf leaf(unsigned number) {
  Leaf found;
  __get_cpuid_count(number, 0, &found.eax, &found.ebx, &found.ecx, &found.edx);
  return found;
}

bool saves(unsigned registers) {
  if (!(leaf(1).ecx & bit_OSXSAVE)) return false;
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & registers) == registers;
}

}  // namespace

bool cpu_has_avx2() { return saves(kYmm) && (leaf(1).ecx & bit_FMA) && (leaf(7).ebx & bit_AVX2); }

#if defined(NIMBED_EMULATE_AVX512)
bool cpu_has_avx512() { return cpu_has_avx2(); }
bool cpu_has_avx512_vnni() { return cpu_has_avx2(); }
#else
bool cpu_has_avx512() { return saves(kZmm) && (leaf(7).ebx & bit_AVX512F); }

bool cpu_has_avx512_vnni() {
  constexpr unsigned kWanted = bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
  return cpu_has_avx512() && (leaf(7).ebx & kWanted) == kWanted && (leaf(7).ecx & bit_AVX512VNNI);
}
#endif

}  // namespace nimbed
