// From token vectors to what the caller gets: pooling, the dense layers or the classifier behind it, the norm.
#pragma once

#include "network.h"
#include "workspace.h"

namespace nimbed {

// out [texts, net.dim()] of the token vectors hidden [rows, width], a row a token, or with `one_row_each` a text; where
// nothing is pooled, out [tokens, size] is the token vectors themselves.
void pool(const Network& net, const Kernels& kernels, const Batch& texts, const float* hidden, bool one_row_each,
          Workspace& own, float* out);

}  // namespace nimbed
