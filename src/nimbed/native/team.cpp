#include "team.h"

#include <chrono>

#if defined(NIMBED_X86)
#include <immintrin.h>
#endif

namespace nimbed {
namespace {

constexpr int kSpins = 4000;  // some 50 us: longer than members differ, unless the system has taken one away
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

Team::Team(int size) {
  for (int i = 1; i < size; ++i) threads_.emplace_back([this] { work(); });
}

Team::~Team() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  begun_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Team::run(const Job& job) {
  if (threads_.empty()) return job(0, 1);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    joined_ = 0;
    members_ = 0;
    open_ = true;
    ++round_;
  }
  begun_.notify_all();
  int spins = 0;
  await([&] { return joined_.load(std::memory_order_relaxed) + 1 == size() || ++spins > kSpins; });
  {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = false;
    busy_ = joined_;
  }
  const int members = busy_ + 1;
  members_.store(members, std::memory_order_release);
  job(0, members);
  std::unique_lock<std::mutex> lock(mutex_);
  ended_.wait(lock, [this] { return busy_ == 0; });
}

void Team::work() {
  for (uint64_t seen = 0;;) {
    const Job* job;
    int rank, members = 0;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      begun_.wait(lock, [&] { return over_ || (open_ && round_ != seen); });
      if (over_) return;
      seen = round_;
      job = job_;
      rank = ++joined_;
    }
    await([&] { return (members = members_.load(std::memory_order_acquire)) != 0; });
    (*job)(rank, members);
    std::lock_guard<std::mutex> lock(mutex_);
    if (--busy_ == 0) ended_.notify_one();
  }
}

void Team::meet() {
  const int members = members_.load(std::memory_order_relaxed);
  if (members == 1) return;
  const uint32_t meeting = meetings_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
    arrived_.store(0, std::memory_order_relaxed);
    meetings_.store(meeting + 1, std::memory_order_release);
    return;
  }
  await([&] { return meetings_.load(std::memory_order_acquire) != meeting; });
}

void RightOfWay::enter() { inside_.fetch_add(1, std::memory_order_relaxed); }

void RightOfWay::leave() {
  if (inside_.fetch_sub(1, std::memory_order_relaxed) == 1) {
    std::lock_guard<std::mutex> lock(mutex_);
    clear_.notify_all();
  }
}

void RightOfWay::give_way() {
  if (inside_.load(std::memory_order_relaxed) == 0) return;
  std::unique_lock<std::mutex> lock(mutex_);
  clear_.wait_for(lock, kStandAside, [this] { return inside_.load(std::memory_order_relaxed) == 0; });
}

}  // namespace nimbed
