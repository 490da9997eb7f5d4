// Which kernels this CPU runs.
#include <cstring>

#include "cpu.h"
#include "kernels.h"

namespace nimbed {
namespace {

struct Choice {
  const Kernels* kernels;
  bool (*runs)();
};

// Best first.
const Choice kChoices[] = {
#if defined(NIMBED_X86)
    {&kAvx512Vnni, cpu_has_avx512_vnni},
    {&kAvx2, cpu_has_avx2},
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
