#include "session.h"

#include <algorithm>

namespace nimbed {
namespace {

// Tokens of a piece, if its texts are short: at most, and where threads take whole pieces of few tokens, at least.
constexpr int kMaxTokens = 256, kMinTokens = 64;

// Of a block of rows, what is between the products of the feed-forward network stays in the L2 cache: bytes in fp32,
// where weights pass from memory seldom enough whatever the width, and rows in 8 bits.
constexpr size_t kBlockBytes = 480 << 10;
constexpr int kMaxExactRows = 96, kRoundedRows = 144;

// Multiplications in a layer, half of which take about as long as the system needs to wake a thread: a batch of more
// waits for its threads, since those that come late join between layers.
constexpr int64_t kWakeMultiplications = 40'000'000;

// What threads fetch while they wait for a batch: pages of so many bytes, 32 MB of them at most.
constexpr ptrdiff_t kPageBytes = 4096;
constexpr size_t kMaxPages = (32 << 20) / kPageBytes;

// The weights' pages that a pass reads first.
std::vector<const char*> first_pages(const Network& net) {
  std::vector<const char*> pages;
  for (const Layer& layer : net.layers) {
    for (const Linear* linear : {&layer.projection, &layer.output, &layer.up, &layer.down}) {
      for (ptrdiff_t at = 0; at < linear->bytes() && pages.size() < kMaxPages; at += kPageBytes) {
        pages.push_back(linear->first() + at);
      }
    }
  }
  return pages;
}

// Into the caches; a page beyond the last weights is only a page that nobody needs.
bool prefetch(const char* page) {
  for (int i = 0; i < kPageBytes; i += 64) __builtin_prefetch(page + i, 0, 2);
  return true;
}

}  // namespace

int block_rows(const Network& net) {
  if (!net.exact) return kRoundedRows;
  const int rows = int(kBlockBytes / (size_t(net.inner) * sizeof(float))) / kTile * kTile;
  return std::clamp(rows, 2 * kTile, kMaxExactRows);
}

std::vector<Batch> pieces_of(const Batch& batch, int max_tokens) {
  std::vector<Batch> pieces;
  for (int text = 0; text < batch.count; ++text) {
    if (pieces.empty() || pieces.back().tokens() + batch.length(text) > max_tokens) {
      const int32_t* keys = batch.keys ? batch.keys + text : nullptr;
      pieces.push_back({batch.ids, batch.offsets + text, batch.types, keys, 0});
    }
    ++pieces.back().count;
  }
  return pieces;
}

std::vector<Batch> largest_first(std::vector<Batch> pieces) {
  std::stable_sort(pieces.begin(), pieces.end(), [](const Batch& a, const Batch& b) { return a.tokens() > b.tokens(); });
  return pieces;
}

Session::Session(const Network& network, const Kernels& kernels, QueryPriority& priority, int threads, bool bulk)
    : network_(network), kernels_(kernels), priority_(priority), bulk_(bulk), pages_(first_pages(network)),
      pool_(threads, [this](size_t i) { return i < pages_.size() && prefetch(pages_[i]); }) {
  for (int i = 0; i < pool_->size(); ++i) workspaces_.push_back(std::make_unique<Workspace>());
}

void Session::expect() {
  if (priority_.bulk_running() == 0) pool_->wake();
}

// Where there are enough pieces, and none is more than a thread's part, each thread takes whole ones, the largest first;
// else threads share the columns of each. Beside bulk work a query has the caller's thread alone: more would wait at
// barriers for each other's turn on the cores.
Session::Plan Session::plan(const Batch& batch) const {
  const int threads = !bulk_ && priority_.bulk_running() > 0 ? 1 : pool_->size();
  Plan plan{threads, pieces_of(batch, kMaxTokens), block_rows(network_)};
  if (threads == 1) return plan;
  const int tokens = batch.tokens(), enough = 2 * threads;
  auto pieces = largest_first(pieces_of(batch, std::clamp(tokens / enough, kMinTokens, kMaxTokens)));
  if (int(pieces.size()) >= enough && pieces[0].tokens() <= tokens / threads) {
    plan.pieces = std::move(pieces);
  } else {
    plan.share_pieces = true;
    plan.wait_for_threads = tokens * network_.layer_multiplications() > kWakeMultiplications;
  }
  return plan;
}

void Session::reserve(const Plan& plan, const Batch& batch) {
  int tokens = 0, texts = 0;
  for (const Batch& piece : plan.pieces) {
    tokens = std::max(tokens, piece.tokens());
    texts = std::max(texts, piece.count);
  }
  const PieceSize size{tokens, texts, batch.longest(), plan.block_rows, plan.share_pieces ? plan.threads : 1};
  for (auto& workspace : workspaces_) {
    workspace->reserve(network_, size, !plan.share_pieces || workspace == workspaces_[0]);
  }
}

void Session::run(const Batch& batch, float* out) {
  const Plan plan = this->plan(batch);
  reserve(plan, batch);
  const QueryPriority::Running running(priority_, bulk_);
  std::atomic<size_t> next_piece{0};
  const auto job = [&](int rank) { work(plan, batch, rank, next_piece, out); };
  if (plan.threads == 1) {
    job(0);
  } else {
    pool_->run(job, plan.wait_for_threads);
  }
}

// One thread's part of a batch.
void Session::work(const Plan& plan, const Batch& batch, int rank, std::atomic<size_t>& next_piece, float* out) {
  const int layers = int(network_.layers.size());
  const bool shared = plan.share_pieces;
  for (size_t i = shared ? 0 : next_piece++; i < plan.pieces.size(); i = shared ? i + 1 : next_piece++) {
    const Batch& piece = plan.pieces[i];
    ForwardPass pass = forward(plan, piece, rank, true);
    pass.run(layers, int(i) * (layers + 1));
    const ptrdiff_t row = network_.pooling == Pooling::none ? piece.offsets[0] : piece.offsets - batch.offsets;
    if (!shared || rank == 0) pass.pool(out + row * network_.dim());
  }
}

ForwardPass Session::forward(const Plan& plan, const Batch& piece, int rank, bool only_pooled) {
  Workspace& own = *workspaces_[rank];
  const Worker worker = plan.share_pieces ? Worker{own, *workspaces_[0], &*pool_, rank} : Worker{own, own, nullptr, 0};
  return {network_, kernels_, piece, plan.block_rows, worker, bulk_ ? &priority_ : nullptr, only_pooled};
}

void Session::hidden(const Batch& batch, int layers, float* out) {
  const Plan plan{1, pieces_of(batch, kMaxTokens), block_rows(network_)};
  reserve(plan, batch);
  for (const Batch& piece : plan.pieces) {
    ForwardPass pass = forward(plan, piece, 0, false);
    pass.run(layers, 0);
    for (int t = 0; t < piece.tokens(); ++t, out += network_.size) {
      std::copy_n(pass.hidden() + ptrdiff_t(t) * network_.width, network_.size, out);
    }
  }
}

}  // namespace nimbed
