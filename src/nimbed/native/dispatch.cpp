// Which kernels this CPU runs.
#include <cstring>

#include "kernels.h"

namespace nimbed {
namespace {

struct Choice {
  const Kernels* kernels;
  bool (*runs)();
};

#if defined(NIMBED_X86)
bool has_avx512_vnni() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

// Best first.
const Choice kChoices[] = {
#if defined(NIMBED_X86)
    {&kAvx512Vnni, has_avx512_vnni},
    {&kAvx2, [] { return bool(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")); }},
#endif
    {&kReference, [] { return true; }},
};

}  // namespace

const Kernels* find_kernels(const char* name) {
  for (const Choice& choice : kChoices) {
    if ((std::strcmp(name, "auto") == 0 || std::strcmp(name, choice.kernels->name) == 0) && choice.runs()) {
      return choice.kernels;
    }
  }
  return nullptr;
}

}  // namespace nimbed
