// Rows of a table in a file that is mapped into memory, of which a lookup reads a few.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nimbed {

// The table's pages that were read lately are resident, and no others. Around a page that is read the system maps 64 KB
// to 2 MB, so that a few texts would leave all of a table resident. What is given back stays in the cache of files.
class MappedRows {
 public:
  MappedRows(const void* table, size_t bytes) {
    const auto page = uintptr_t(sysconf(_SC_PAGESIZE)), begin = reinterpret_cast<uintptr_t>(table);
    first_ = (begin + page - 1) / page * page;
    const uintptr_t end = (begin + bytes) / page * page;
    size_ = end > first_ ? end - first_ : 0;
  }

  // One was read; from any thread.
  void read_row() {
    if (++read_ % kRows == 0) madvise(reinterpret_cast<void*>(first_), size_, MADV_DONTNEED);
  }

 private:
  // Between two times. Their pages take 0.1 ms, their network ten times as long and more.
  static constexpr unsigned kRows = 64;

  uintptr_t first_;
  size_t size_;
  std::atomic<unsigned> read_{0};
};

}  // namespace nimbed
