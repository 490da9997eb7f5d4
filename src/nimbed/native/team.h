// Threads that work on one batch together, and the order between batches.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <unistd.h>

#include "placement.h"

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

// They sleep between batches, apart from the caller's core. A batch does not wait for those whom the system wakes late: it lets them in on its way. Who
// is very late found no free core, and would keep the others waiting at their meetings: he sleeps on.
class Team {
 public:
  // What a member does, by its rank.
  using Job = std::function<void(int rank)>;
  // Piece i of what those who wait for a batch do meanwhile; false where there is no such piece.
  using Ahead = std::function<bool(size_t i)>;

  // The step of a batch that begins, and how many take part in it.
  struct Step {
    int number, members;
  };

  // Of fewer than `size` where the system gives no more threads.
  Team(int size, const Ahead& ahead);
  ~Team();
  Team(const Team&) = delete;

  int size() const { return int(threads_.size()) + 1; }

  // A batch is about to come: the others wake, and wait for it on their cores for a short while. From any thread.
  void expect();

  // Runs the job on the caller, as rank 0, and on all who come while it does; returns when they are done. It must not
  // throw. `patient`: waits for the others first, for as long as it takes to wake them.
  void run(const Job& job, bool patient);

  // Begins step `number` of the job, or for those of another rank than 0 the first one from there on that they may take
  // part in, which is past all others where the job is over. They have what rank 0 had written before it.
  Step begin(int rank, int number);

  // Waits until all who take part in the step are here.
  void meet(int members);

 private:
  void work();
  void stop();
  void stand_by(uint64_t round);
  void publish(Step step);

  const Ahead ahead_;
  std::vector<std::thread> threads_;
  Placement placement_;
  std::mutex mutex_;
  std::condition_variable begun_, ended_;
  const Job* job_ = nullptr;
  std::atomic<uint64_t> round_{0};
  uint64_t expected_ = 0;  // as often as `expect` woke them
  std::atomic<size_t> next_ahead_{0};
  bool open_ = false;
  std::atomic<bool> over_{false};
  std::chrono::steady_clock::time_point until_;  // who comes later is not let in
  int busy_ = 0;
  std::atomic<int> joined_{0};
  std::atomic<uint64_t> step_{0};  // as `publish` packs it
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> meetings_{0};
};

// Queries go before bulk, which stands aside at the borders of its steps: for a while, so that it never starves.
class RightOfWay {
 public:
  // Somebody's run, from here to the end of the block.
  class Turn {
   public:
    Turn(RightOfWay& way, bool bulk) : way_(way), bulk_(bulk) { way_.enter(bulk_); }
    ~Turn() { way_.leave(bulk_); }
    Turn(const Turn&) = delete;

   private:
    RightOfWay& way_;
    bool bulk_;
  };

  void give_way();
  // Whether the cores have work without a query's team, whose members would wait for each other's turn on them.
  bool bulk_runs() const { return bulk_ > 0; }
  bool queries_run() const { return queries_ > 0; }

 private:
  void enter(bool bulk);
  void leave(bool bulk);

  std::atomic<int> queries_{0}, bulk_{0};
  std::mutex mutex_;
  std::condition_variable clear_;
};

}  // namespace nimbed
