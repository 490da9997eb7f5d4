// What this CPU has, and its operating system saves when threads change.
#pragma once

namespace nimbed {

bool cpu_has_avx2();  // and FMA
bool cpu_has_avx512();
bool cpu_has_avx512_vnni();  // and BW, VL and DQ

}  // namespace nimbed
