// A network read from an engine file's settings and arrays.
#pragma once

#include <optional>
#include <vector>

#include "arrays.h"
#include "network.h"
#include "query_priority.h"
#include "thread_pool.h"

namespace nimbed {

// With the arrays that it reads, and the priority of queries among its sessions. `words_mapped`: the table of words is
// part of a file's mapping, of which few pages may stay resident.
struct Model {
  Model(nb::dict settings, nb::dict arrays, bool words_mapped = false);

  std::vector<nb::object> kept;
  Network network;
  std::optional<MappedRows> mapped;
  ForkSafe<QueryPriority> priority;
};

}  // namespace nimbed
