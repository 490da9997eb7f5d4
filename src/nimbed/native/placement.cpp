#include "placement.h"

#if defined(__linux__)
#include <cstdio>
#endif

namespace nimbed {

#if defined(__linux__)
namespace {

// The logical processors of a processor's core, itself among them: "0,4" or "0-1" in the system's words.
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

cpu_set_t without(const cpu_set_t& from, const cpu_set_t& what) {
  cpu_set_t both, left;
  CPU_AND(&both, &from, &what);
  CPU_XOR(&left, &from, &both);
  return left;
}

}  // namespace

const cpu_set_t& Placement::core_of(int processor) {
  const auto known = cores_.find(processor);
  return known != cores_.end() ? known->second : cores_.emplace(processor, read_core(processor)).first->second;
}

void Placement::add(pthread_t thread) {
  Member member{thread, {}, {}};
  if (pthread_getaffinity_np(thread, sizeof member.allowed, &member.allowed) != 0) return;
  member.given = member.allowed;
  members_.push_back(member);
}

void Placement::leave_core_to_caller() {
  const int processor = sched_getcpu();
  if (processor == processor_ || processor < 0 || processor >= CPU_SETSIZE || members_.empty()) return;
  processor_ = processor;
  const cpu_set_t& core = core_of(processor);
  cpu_set_t alone;
  CPU_ZERO(&alone);
  CPU_SET(processor, &alone);
  for (Member& member : members_) {
    cpu_set_t now;
    if (pthread_getaffinity_np(member.thread, sizeof now, &now) != 0) continue;
    if (!CPU_EQUAL(&now, &member.given)) member.allowed = now;  // somebody else has set it
    cpu_set_t given = without(member.allowed, core);
    if (size_t(CPU_COUNT(&given)) < members_.size()) given = without(member.allowed, alone);
    if (size_t(CPU_COUNT(&given)) < members_.size()) given = member.allowed;
    if (!CPU_EQUAL(&given, &now)) pthread_setaffinity_np(member.thread, sizeof given, &given);
    pthread_getaffinity_np(member.thread, sizeof member.given, &member.given);  // the system may give less
  }
}
#else
void Placement::add(pthread_t) {}
void Placement::leave_core_to_caller() {}
#endif

}  // namespace nimbed
