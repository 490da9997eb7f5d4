// Where the members of a team may run.
#pragma once

#include <pthread.h>

#include <map>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace nimbed {

// Keeps the members of a team off the core of the thread that calls them. Linux wakes a thread on its waker's core where
// it takes the other cores for busy, and in a virtual machine it takes every core that sleeps for one (the host marks
// the processor as preempted). Two members on one core would wait for each other for a time slice, which is 1 to 3 ms.
// Elsewhere it does nothing. Its owner calls it from one thread at a time.
class Placement {
 public:
  void add(pthread_t member);

  // Where there are cores enough, no member wakes on the caller's from now on, nor on a hyperthread of it.
  void leave_core_to_caller();

 private:
#if defined(__linux__)
  struct Member {
    pthread_t thread;
    cpu_set_t allowed, given;  // by the user; by us, at the last change
  };

  const cpu_set_t& core_of(int processor);

  std::vector<Member> members_;
  std::map<int, cpu_set_t> cores_;
  int processor_ = -1;  // of the last caller
#endif
};

}  // namespace nimbed
