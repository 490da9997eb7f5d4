// Core affinity: on which cores the threads of a pool may run.
#pragma once

#include <pthread.h>

#include <map>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace nimbed {

// Keeps a pool's threads off the core of the thread that calls them. Linux wakes a thread on its waker's core where it
// takes the other cores for busy, and in a virtual machine it takes every idle core for busy (the host marks the
// processor as preempted). Two threads on one core would wait for each other at a barrier for a time slice, which is 1
// to 3 ms. Does nothing on other systems. Not for use from several threads at once.
class Placement {
 public:
  void add(pthread_t thread);

  // Where there are enough cores, no thread wakes on the caller's core from now on, nor on a hyperthread of it.
  void leave_core_to_caller();

 private:
#if defined(__linux__)
  struct Thread {
    pthread_t handle;
    cpu_set_t allowed;   // by the user
    cpu_set_t assigned;  // by us, at the last change
  };

  const cpu_set_t& core_of(int processor);

  std::vector<Thread> threads_;
  std::map<int, cpu_set_t> cores_;
  int processor_ = -1;  // of the last caller
#endif
};

}  // namespace nimbed
