// A network read from an engine file's settings and arrays.
#pragma once

#include <vector>

#include "arrays.h"
#include "network.h"
#include "query_priority.h"
#include "thread_pool.h"

namespace nimbed {

// With the arrays that it reads, and the priority of queries among its sessions.
struct Model {
  Model(nb::dict settings, nb::dict arrays);

  std::vector<nb::object> kept;
  Network network;
  ForkSafe<QueryPriority> priority;
};

}  // namespace nimbed
