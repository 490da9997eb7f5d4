#include "team.h"

#include <limits>
#include <new>
#include <system_error>

#if defined(NIMBED_X86)
#include <immintrin.h>
#endif

namespace nimbed {
namespace {

constexpr int kSpins = 2000;  // 20 to 120 us: longer than members differ, unless the system has taken one away
// In which the system has woken a thread if a core is free: to wait for, and at most.
constexpr auto kPatience = std::chrono::microseconds(100), kLatest = std::chrono::microseconds(250);
// How long an expected batch is waited for: its text is tokenized meanwhile, which takes 0.05 to 1 ms.
constexpr auto kStandBy = std::chrono::milliseconds(2);
constexpr auto kStandAside = std::chrono::milliseconds(5);

// Spins until `holds`, and lets others have the core if that takes long.
template <class Condition>
void await(Condition holds) {
  for (int spins = 0; !holds(); ++spins) {
    if (spins > kSpins) {
      std::this_thread::yield();
      continue;
    }
#if defined(NIMBED_X86)
    _mm_pause();
#endif
  }
}

}  // namespace

Team::Team(int size, const Ahead& ahead) : ahead_(ahead) {
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

Team::~Team() { stop(); }

void Team::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  begun_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Team::publish(Step step) {
  step_.store(uint64_t(step.number) << 32 | uint32_t(step.members), std::memory_order_release);
}

void Team::run(const Job& job, bool patient) {
  if (threads_.empty()) return job(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    placement_.leave_core_to_caller();
    job_ = &job;
    joined_ = 0;
    publish({0, 0});
    open_ = true;
    ++round_;
  }
  begun_.notify_all();
  const auto now = std::chrono::steady_clock::now();
  until_ = now + kLatest;
  if (patient) await([&] { return joined_ + 1 == size() || std::chrono::steady_clock::now() > now + kPatience; });
  job(0);
  std::unique_lock<std::mutex> lock(mutex_);
  open_ = false;
  publish({std::numeric_limits<int>::max(), size()});  // for those who have come too late to take part
  ended_.wait(lock, [this] { return busy_ == 0; });
}

void Team::expect() {
  {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock || open_ || busy_ > 0) return;  // they are awake
    placement_.leave_core_to_caller();
    next_ahead_ = 0;
    ++expected_;
  }
  begun_.notify_all();
}

void Team::work() {
  for (uint64_t seen = 0, heard = 0;;) {
    const Job* job = nullptr;
    int rank = 0;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto begins = [&] { return open_ && round_ != seen; };
      begun_.wait(lock, [&] { return over_ || begins() || expected_ != heard; });
      if (over_) return;
      heard = expected_;
      if (begins()) {
        job = job_;
        rank = ++joined_;
        ++busy_;
      }
      seen = round_;
    }
    if (job == nullptr) {
      stand_by(seen);
      continue;
    }
    (*job)(rank);
    std::lock_guard<std::mutex> lock(mutex_);
    if (--busy_ == 0) ended_.notify_one();
  }
}

// Until a round after this one begins, or for a while.
void Team::stand_by(uint64_t round) {
  const auto end = std::chrono::steady_clock::now() + kStandBy;
  bool ahead = true;
  await([&] {
    if (ahead) ahead = ahead_(next_ahead_++);
    return round_ != round || over_ || std::chrono::steady_clock::now() > end;
  });
}

Team::Step Team::begin(int rank, int number) {
  if (threads_.empty()) return {number, 1};
  if (rank == 0) {
    if (joined_ + 1 < size() && std::chrono::steady_clock::now() > until_) {
      std::lock_guard<std::mutex> lock(mutex_);
      open_ = false;
    }
    const Step step{number, joined_ + 1};
    publish(step);
    return step;
  }
  Step step;
  await([&] {
    const uint64_t now = step_.load(std::memory_order_acquire);
    step = {int(now >> 32), int(uint32_t(now))};
    return step.number >= number && step.members > rank;
  });
  return step;
}

void Team::meet(int members) {
  if (members == 1) return;
  const uint32_t meeting = meetings_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
    arrived_.store(0, std::memory_order_relaxed);
    meetings_.store(meeting + 1, std::memory_order_release);
    return;
  }
  await([&] { return meetings_.load(std::memory_order_acquire) != meeting; });
}

void RightOfWay::enter(bool bulk) { (bulk ? bulk_ : queries_).fetch_add(1, std::memory_order_relaxed); }

void RightOfWay::leave(bool bulk) {
  if ((bulk ? bulk_ : queries_).fetch_sub(1, std::memory_order_relaxed) == 1 && !bulk) {
    std::lock_guard<std::mutex> lock(mutex_);
    clear_.notify_all();
  }
}

void RightOfWay::give_way() {
  if (!queries_run()) return;
  std::unique_lock<std::mutex> lock(mutex_);
  clear_.wait_for(lock, kStandAside, [this] { return !queries_run(); });
}

}  // namespace nimbed
