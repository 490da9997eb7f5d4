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

// They sleep between batches.
class Team {
 public:
  explicit Team(int size);
  ~Team();
  Team(const Team&) = delete;

  int size() const { return int(threads_.size()) + 1; }

  // Runs job(rank) on every member, the caller among them as rank 0; returns when all are done. It must not throw.
  void run(const std::function<void(int)>& job);

  // Waits until every member is here.
  void meet();

 private:
  void work(int rank);

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  const std::function<void(int)>* job_ = nullptr;
  uint64_t round_ = 0;
  int busy_ = 0;
  bool over_ = false;
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
