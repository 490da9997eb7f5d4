// The order between the sessions of a model: queries go before bulk.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace nimbed {

// While a query runs, bulk work waits between two of its steps: for a while, so that it never starves.
class QueryPriority {
 public:
  // Somebody's run, until the end of the block.
  class Running {
   public:
    Running(QueryPriority& priority, bool bulk) : priority_(priority), bulk_(bulk) { ++priority_.running(bulk_); }
    ~Running() {
      if (--priority_.running(bulk_) == 0 && !bulk_) priority_.notify();
    }
    Running(const Running&) = delete;

   private:
    QueryPriority& priority_;
    bool bulk_;
  };

  // Called by bulk work between steps.
  void yield_to_queries() {
    if (!query_running()) return;
    std::unique_lock<std::mutex> lock(mutex_);
    no_query_.wait_for(lock, kMaxWait, [this] { return !query_running(); });
  }

  int bulk_running() const { return bulk_; }  // runs, each on a thread or more
  bool query_running() const { return queries_ > 0; }

 private:
  static constexpr auto kMaxWait = std::chrono::milliseconds(5);

  std::atomic<int>& running(bool bulk) { return bulk ? bulk_ : queries_; }
  void notify() {
    std::lock_guard<std::mutex> lock(mutex_);
    no_query_.notify_all();
  }

  std::atomic<int> queries_{0}, bulk_{0};
  std::mutex mutex_;
  std::condition_variable no_query_;
};

}  // namespace nimbed
