// What the two files that Python sees share: numpy's arrays, and kernels by name.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <initializer_list>
#include <string>

#include "kernels.h"

namespace nimbed {

namespace nb = nanobind;

template <class T, int N>
using Input = nb::ndarray<const T, nb::numpy, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using Output = nb::ndarray<nb::numpy, T, nb::ndim<N>>;

[[noreturn]] inline void refuse(const std::string& what) { throw nb::value_error(what.c_str()); }

inline const Kernels& kernels_named(const std::string& name) {
  const Kernels* found = find_kernels(name.c_str());
  if (found == nullptr) refuse("this CPU has no kernels of the name " + name);
  return *found;
}

// An array of numpy's in memory of our own, exactly as long as it says: what writes beyond it, a sanitizer sees.
template <class T, int N>
Output<T, N> new_array(std::initializer_list<size_t> shape) {
  size_t count = 1;
  for (const size_t n : shape) count *= n;
  T* data = new T[count]();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return Output<T, N>(data, shape, owner);
}

}  // namespace nimbed
