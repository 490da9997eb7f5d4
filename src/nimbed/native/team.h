// Threads that work on one batch together, and the order between batches.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <unistd.h>

namespace nimbed {

// Something of one process: a child of fork has its memory, but not the threads that wait in it, so there it is left
// as it is instead of being destroyed.
template <class T>
class OfProcess {
 public:
  template <class... Args>
  explicit OfProcess(Args... args) : value_(new T(args...)) {}
  ~OfProcess() {
    if (getpid() == process_) delete value_;
  }
  OfProcess(const OfProcess&) = delete;
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
  pid_t process_ = getpid();
};

// They sleep between batches. One that the system does not wake in time is not waited for: it misses the batch.
class Team {
 public:
  // What a member does: its rank, from 0 on, and how many take part.
  using Job = std::function<void(int rank, int members)>;

  explicit Team(int size);
  ~Team();
  Team(const Team&) = delete;

  int size() const { return int(threads_.size()) + 1; }

  // Runs the job on the caller, as rank 0, and on all who come in time; returns when they are done. It must not throw.
  void run(const Job& job);

  // Waits until every member of the batch is here.
  void meet();

 private:
  void work();

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  const Job* job_ = nullptr;
  uint64_t round_ = 0;
  bool open_ = false, over_ = false;
  int busy_ = 0;
  std::atomic<int> joined_{0};
  std::atomic<int> members_{1};  // of this batch; 0 until it is known who comes
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> meetings_{0};
};

// Queries go before bulk, which stands aside at the borders of its steps: for a while, so that it never starves.
class RightOfWay {
 public:
  void enter();
  void leave();
  void give_way();

 private:
  std::atomic<int> inside_{0};
  std::mutex mutex_;
  std::condition_variable clear_;
};

}  // namespace nimbed
