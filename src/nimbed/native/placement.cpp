#include "placement.h"

#if defined(__linux__)
#include <cstdio>
#endif

namespace nimbed {

#if defined(__linux__)
namespace {

// The logical processors of a processor's core, itself among them: the system says "0,4" or "0-1".
cpu_set_t read_core(int processor) {
  cpu_set_t core;
  CPU_ZERO(&core);
  CPU_SET(processor, &core);
  char path[96];
  std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", processor);
  if (std::FILE* file = std::fopen(path, "re")) {
    for (int first, last, next = ','; next == ',' && std::fscanf(file, "%d", &first) == 1;) {
      last = first;
      if ((next = std::fgetc(file)) == '-') next = std::fscanf(file, "%d", &last) == 1 ? std::fgetc(file) : EOF;
      for (int i = first; i >= 0 && i <= last && i < CPU_SETSIZE; ++i) CPU_SET(i, &core);
    }
    std::fclose(file);
  }
  return core;
}

cpu_set_t difference(const cpu_set_t& from, const cpu_set_t& removed) {
  cpu_set_t both, result;
  CPU_AND(&both, &from, &removed);
  CPU_XOR(&result, &from, &both);
  return result;
}

}  // namespace

const cpu_set_t& Placement::core_of(int processor) {
  const auto known = cores_.find(processor);
  return known != cores_.end() ? known->second : cores_.emplace(processor, read_core(processor)).first->second;
}

void Placement::add(pthread_t handle) {
  Thread thread{handle, {}, {}};
  if (pthread_getaffinity_np(handle, sizeof thread.allowed, &thread.allowed) != 0) return;
  thread.assigned = thread.allowed;
  threads_.push_back(thread);
}

void Placement::leave_core_to_caller() {
  const int processor = sched_getcpu();
  if (processor == processor_ || processor < 0 || processor >= CPU_SETSIZE || threads_.empty()) return;
  processor_ = processor;
  const cpu_set_t& core = core_of(processor);
  cpu_set_t alone;
  CPU_ZERO(&alone);
  CPU_SET(processor, &alone);
  for (Thread& thread : threads_) {
    cpu_set_t now;
    if (pthread_getaffinity_np(thread.handle, sizeof now, &now) != 0) continue;
    if (!CPU_EQUAL(&now, &thread.assigned)) thread.allowed = now;  // somebody else has set it
    cpu_set_t assigned = difference(thread.allowed, core);
    if (size_t(CPU_COUNT(&assigned)) < threads_.size()) assigned = difference(thread.allowed, alone);
    if (size_t(CPU_COUNT(&assigned)) < threads_.size()) assigned = thread.allowed;
    if (!CPU_EQUAL(&assigned, &now)) pthread_setaffinity_np(thread.handle, sizeof assigned, &assigned);
    pthread_getaffinity_np(thread.handle, sizeof thread.assigned, &thread.assigned);  // the system may give less
  }
}
#else
void Placement::add(pthread_t) {}
void Placement::leave_core_to_caller() {}
#endif

}  // namespace nimbed
