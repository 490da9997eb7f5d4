#include "team.h"

#include <chrono>

#if defined(NIMBED_X86)
#include <immintrin.h>
#endif

namespace nimbed {
namespace {

constexpr int kSpins = 4000;  // some 50 us: longer than members differ, unless the system has taken one away
constexpr auto kStandAside = std::chrono::milliseconds(5);

void pause() {
#if defined(NIMBED_X86)
  _mm_pause();
#endif
}

}  // namespace

Team::Team(int size) {
  for (int rank = 1; rank < size; ++rank) threads_.emplace_back([this, rank] { work(rank); });
}

Team::~Team() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  begun_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Team::run(const std::function<void(int)>& job) {
  if (threads_.empty()) return job(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    busy_ = int(threads_.size());
    ++round_;
  }
  begun_.notify_all();
  job(0);
  std::unique_lock<std::mutex> lock(mutex_);
  ended_.wait(lock, [this] { return busy_ == 0; });
}

void Team::work(int rank) {
  for (uint64_t seen = 0;;) {
    const std::function<void(int)>* job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      begun_.wait(lock, [&] { return over_ || round_ != seen; });
      if (over_) return;
      seen = round_;
      job = job_;
    }
    (*job)(rank);
    std::lock_guard<std::mutex> lock(mutex_);
    if (--busy_ == 0) ended_.notify_one();
  }
}

void Team::meet() {
  if (threads_.empty()) return;
  const uint32_t meeting = meetings_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
    arrived_.store(0, std::memory_order_relaxed);
    meetings_.store(meeting + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; meetings_.load(std::memory_order_acquire) == meeting; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
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
