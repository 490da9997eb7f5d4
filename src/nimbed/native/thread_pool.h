// Threads that compute one batch together.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "placement.h"

namespace nimbed {

// A child of fork has its parent's memory, but not the threads that wait in it: there the value is left as it is
// instead of being destroyed.
template <class T>
class ForkSafe {
 public:
  template <class... Args>
  explicit ForkSafe(Args... args) : value_(new T(args...)) {}
  ~ForkSafe() {
    if (getpid() == process_) delete value_;
  }
  ForkSafe(const ForkSafe&) = delete;
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
  pid_t process_ = getpid();
};

// Each wait returns when `threads` threads have called it; then it can be used again, by another number of them.
class Barrier {
 public:
  void wait(int threads);

 private:
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> generation_{0};
};

// Its threads sleep between batches, off the caller's core. A batch does not wait for threads that the system wakes
// late: it consists of numbered steps, and they join it at the next one. Who is later than kJoinTimeout found no free
// core, and would keep the others waiting at barriers: it sleeps on.
class ThreadPool {
 public:
  // What a thread does for a batch. The caller's rank is 0; the others have theirs in the order in which they come.
  using Job = std::function<void(int rank)>;
  // Piece i of what threads do while they wait for a batch that was announced; false where there is no such piece.
  using Prefetch = std::function<bool(size_t i)>;

  // A step of a batch, and how many threads take part in it.
  struct Step {
    int number, threads;
  };

  // Of fewer than `size` threads, the caller among them, where the system gives no more.
  ThreadPool(int size, const Prefetch& prefetch);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  int size() const { return int(threads_.size()) + 1; }

  // A batch is about to come: the threads wake, and wait for it on their cores for a short while. From any thread.
  void wake();

  // Runs the job on the caller and on all threads that come while it does; returns when they are done. It must not
  // throw. `wait_for_threads`: first waits for them, as long as it takes to wake one.
  void run(const Job& job, bool wait_for_threads);

  // The step that this thread takes part in next: `number`, but for ranks other than 0 a later one where they have
  // missed it or it was for fewer, and one past all others where the job is over. They see what rank 0 had written
  // before the step. `most`: how many threads rank 0 lets take part in it.
  Step enter_step(int rank, int number, int most);

  // Waits until all `threads` of the step are here.
  void barrier(int threads) { barrier_.wait(threads); }

 private:
  // The numbers of the last batch, and of the last announcement, that a thread has seen.
  struct Seen {
    uint64_t batch = 0, announced = 0;
  };

  void work();
  void stop();
  const Job* wait_for_job(Seen& seen, int& rank);
  void spin_for_batch(uint64_t last);
  void publish(Step step);

  const Prefetch prefetch_;
  std::vector<std::thread> threads_;
  Placement placement_;
  std::mutex mutex_;
  std::condition_variable wake_up_, all_done_;
  const Job* job_ = nullptr;
  std::atomic<uint64_t> batch_{0};  // its number
  uint64_t announced_ = 0;          // calls of `wake`
  std::atomic<size_t> next_prefetch_{0};
  bool joinable_ = false;
  std::chrono::steady_clock::time_point join_until_;
  std::atomic<bool> stopping_{false};
  int busy_ = 0;  // threads in the job, the caller aside
  std::atomic<int> joined_{0};
  std::atomic<uint64_t> step_{0};  // as `publish` packs it
  Barrier barrier_;
};

}  // namespace nimbed
