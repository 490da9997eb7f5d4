#include "thread_pool.h"

#include <algorithm>
#include <limits>
#include <system_error>

#if defined(NIMBED_X86)
#include <immintrin.h>
#endif

namespace nimbed {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSpins = 2000;  // 20 to 120 us: longer than threads differ, unless the system has taken one away
constexpr int kYields = kSpins + 10'000;  // 5 ms and more: who waits so long for others has no part in their work
constexpr auto kSleep = std::chrono::microseconds(200);
// The system wakes a thread in less if a core is free.
constexpr auto kWakeTime = std::chrono::microseconds(100), kJoinTimeout = std::chrono::microseconds(250);
// How long an announced batch is waited for: its text is tokenized meanwhile, which takes 0.05 to 1 ms.
constexpr auto kAnnouncedTimeout = std::chrono::milliseconds(2);

// Spins until the condition holds, and lets other threads have the core if that takes long, or sleeps in between if it
// takes very long.
template <class Condition>
void spin_until(Condition holds) {
  for (int spins = 0; !holds(); ++spins) {
    if (spins > kSpins) {
      if (spins < kYields) std::this_thread::yield();
      else std::this_thread::sleep_for(kSleep);
      continue;
    }
#if defined(NIMBED_X86)
    _mm_pause();
#endif
  }
}

}  // namespace

void Barrier::wait(int threads) {
  if (threads == 1) return;
  const uint32_t generation = generation_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
    return;
  }
  spin_until([&] { return generation_.load(std::memory_order_acquire) != generation; });
}

ThreadPool::ThreadPool(int size, const Prefetch& prefetch) : prefetch_(prefetch) {
  try {
    threads_.reserve(size_t(size));
    for (int i = 1; i < size; ++i) {
      threads_.emplace_back([this] { work(); });
      placement_.add(threads_.back().native_handle());
    }
  } catch (const std::system_error&) {  // the system gives no more: those who are there are enough
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_up_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::publish(Step step) {
  step_.store(uint64_t(step.number) << 32 | uint32_t(step.threads), std::memory_order_release);
}

void ThreadPool::run(const Job& job, bool wait_for_threads) {
  if (threads_.empty()) return job(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    placement_.leave_core_to_caller();
    job_ = &job;
    joined_ = 0;
    publish({0, 0});
    joinable_ = true;
    ++batch_;
  }
  wake_up_.notify_all();
  const auto now = Clock::now();
  join_until_ = now + kJoinTimeout;
  if (wait_for_threads) spin_until([&] { return joined_ + 1 == size() || Clock::now() > now + kWakeTime; });
  job(0);
  std::unique_lock<std::mutex> lock(mutex_);
  joinable_ = false;
  publish({std::numeric_limits<int>::max(), size()});  // for threads that came too late to take part
  all_done_.wait(lock, [this] { return busy_ == 0; });
}

void ThreadPool::wake() {
  {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || joinable_ || busy_ > 0) return;  // they are awake
    placement_.leave_core_to_caller();
    next_prefetch_ = 0;
    ++announced_;
  }
  wake_up_.notify_all();
}

void ThreadPool::work() {
  for (Seen seen;;) {
    int rank = 0;
    const Job* job = wait_for_job(seen, rank);
    if (job != nullptr) {
      (*job)(rank);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) all_done_.notify_one();
    } else if (stopping_) {
      return;
    } else {
      spin_for_batch(seen.batch);
    }
  }
}

// The job of a batch that can be joined, and a rank in it; nullptr where one was announced, or where the pool stops.
const ThreadPool::Job* ThreadPool::wait_for_job(Seen& seen, int& rank) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto can_join = [&] { return joinable_ && batch_ != seen.batch; };
  wake_up_.wait(lock, [&] { return stopping_ || can_join() || announced_ != seen.announced; });
  const bool joins = !stopping_ && can_join();
  seen = {batch_, announced_};
  if (!joins) return nullptr;
  rank = ++joined_;
  ++busy_;
  return job_;
}

// Until a batch after the last one begins, or for a while.
void ThreadPool::spin_for_batch(uint64_t last) {
  const auto end = Clock::now() + kAnnouncedTimeout;
  bool prefetching = true;
  spin_until([&] {
    if (prefetching) prefetching = prefetch_(next_prefetch_++);
    return batch_ != last || stopping_ || Clock::now() > end;
  });
}

ThreadPool::Step ThreadPool::enter_step(int rank, int number, int most) {
  if (threads_.empty()) return {number, 1};
  if (rank == 0) {
    if (joined_ + 1 < size() && Clock::now() > join_until_) {
      std::lock_guard<std::mutex> lock(mutex_);
      joinable_ = false;
    }
    const Step step{number, std::min(joined_ + 1, most)};
    publish(step);
    return step;
  }
  Step step;
  spin_until([&] {
    const uint64_t packed = step_.load(std::memory_order_acquire);
    step = {int(packed >> 32), int(uint32_t(packed))};
    return step.number >= number && step.threads > rank;
  });
  return step;
}

}  // namespace nimbed
