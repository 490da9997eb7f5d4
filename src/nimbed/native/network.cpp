#include "network.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "workspace.h"

namespace nimbed {
namespace {

// Tokens of whole sequences that pass through the layers together, if they are short: at most, and where a team divides
// few of them among its members, at least.
constexpr int kMostTokens = 256, kFewTokens = 64;
// Products in half a layer, about as many as are computed while the system wakes a thread: a batch of more waits for its
// team, since who comes late is let in between layers.
constexpr int64_t kWakingProducts = 20'000'000;

// What members fetch while they wait for a batch: pages of so many bytes, 32 MB of them at most.
constexpr int kPage = 4096;
constexpr size_t kMostAhead = (32 << 20) / kPage;

// Members of a team take contiguous parts of `count` things.
struct Part {
  int begin, end;
  Part(int count, int rank, int size) : begin(count * rank / size), end(count * (rank + 1) / size) {}
};

// Some sequences on their way through the network, as one member of a team sees it.
class Pass {
 public:
  // `shared`: the workspace of rank 0. `team`: nullptr where the member has them for itself.
  Pass(const Network& net, const Kernels& kernels, const Batch& batch, Workspace& own, Workspace& shared, Team* team,
       int rank, RightOfWay* way)
      : net_(net), kernels_(kernels), batch_(batch), own_(own), shared_(shared), team_(team), rank_(rank), way_(way),
        tokens_(batch.offsets[batch.count] - batch.offsets[0]) {}

  // `steps`: how many the team has behind it. A layer is one, and so is the end.
  void through(int layers, int steps = 0) {
    if (rank_ == 0) embed();
    for (int i = 0; (i = begin(i, steps)) < layers; ++i) {
      attention(net_.layers[i]);
      meet();
      for (int first = 0, rows = block_rows(net_); first < tokens_; first += rows) {
        feed_forward(net_.layers[i], first, std::min(rows, tokens_ - first));
      }
    }
  }

  const float* hidden() const { return own_.hidden.get(); }

 private:
  // The layer that this member takes part in next: `layer`, or a later one where it was not there yet.
  int begin(int layer, int steps) {
    if (team_ == nullptr) return layer;
    const Team::Step step = team_->begin(rank_, steps + layer);
    members_ = step.members;
    const int next = step.number - steps;
    if (rank_ != 0 && !inside_ && next < int(net_.layers.size())) copy_input();
    return next;
  }

  // What rank 0 has come to; it changes that after the next meeting.
  void copy_input() {
    const size_t count = size_t(tokens_) * net_.width;
    std::copy_n(shared_.hidden.get(), count, own_.hidden.get());
    std::copy_n(shared_.input.values.get(), count, own_.input.values.get());
    std::copy_n(shared_.input.scales.get(), tokens_, own_.input.scales.get());
    inside_ = true;
  }

  void meet() {
    if (team_ != nullptr) team_->meet(members_);
  }

  void embed() {
    const int width = net_.width;
    for (int s = 0, row = 0; s < batch_.count; ++s) {
      int next = net_.padding + 1;
      for (int at = batch_.offsets[s]; at < batch_.offsets[s + 1]; ++at, ++row) {
        const int position = batch_.ids[at] == net_.padding ? net_.padding : next++;
        const float* word = net_.words + ptrdiff_t(batch_.ids[at]) * width;
        const float* type = net_.type_table + ptrdiff_t(batch_.types ? batch_.types[at] : 0) * width;
        float* x = own_.hidden.get() + ptrdiff_t(row) * width;
        for (int i = 0; i < width; ++i) x[i] = word[i] + type[i];
        norm(row, net_.position_table + ptrdiff_t(position) * width, net_.embedding_norm);
      }
    }
  }

  // hidden[row] = LayerNorm(hidden[row] + y), and its rounded copy for the next product.
  void norm(int row, const float* y, const Norm& parameters) {
    const ptrdiff_t at = ptrdiff_t(row) * net_.width;
    own_.input.scales.get()[row] = kernels_.add_norm(y, own_.hidden.get() + at, net_.size, net_.width, parameters,
                                                     own_.input.values.get() + at);
  }

  void attention(const Layer& layer) {
    const ptrdiff_t width = net_.group_width, context_width = width * net_.groups;
    const int panels = int(width) / kPanel;
    float* heads[3];
    for (int i = 0; i < 3; ++i) heads[i] = own_.heads.get() + i * tokens_ * width;
    const Part part(net_.groups, rank_, members_);
    for (int group = part.begin; group < part.end; ++group) {
      if (way_ != nullptr) way_->give_way();
      for (int i = 0; i < 3 * panels; ++i) {
        product(own_.input, 0, tokens_, layer.projection, group * 3 * panels + i, Activation::none,
                heads[i / panels] + i % panels * kPanel, width);
      }
      for (int s = 0; s < batch_.count; ++s) {
        const ptrdiff_t first = batch_.offsets[s] - batch_.offsets[0];
        for (int head = 0; head < net_.group_heads; ++head) {
          const ptrdiff_t at = first * width + head * net_.head_dim;
          const ptrdiff_t row = (ptrdiff_t(group) * net_.group_heads + head) * net_.distances();
          const float* distances = net_.relative ? net_.relative + row + net_.longest() : nullptr;
          kernels_.attend(heads[0] + at, heads[1] + at, heads[2] + at, width, batch_.offsets[s + 1] - batch_.offsets[s],
                          net_.head_dim, distances,
                          shared_.context.get() + first * context_width + group * width + head * net_.head_dim,
                          context_width, own_.scratch.get());
        }
      }
    }
  }

  // All that follows attention, for some rows: they stay in the cache from one product to the next.
  void feed_forward(const Layer& layer, int first, int rows) {
    if (way_ != nullptr) way_->give_way();
    round(shared_.context.get() + ptrdiff_t(first) * layer.output.inputs, rows, layer.output);
    share(own_.block, 0, rows, layer.output, Activation::none, shared_.mixed.get(), net_.width);
    meet();
    norms(first, rows, shared_.mixed.get(), layer.attention_norm);
    share(own_.input, first, rows, layer.up, net_.activation, shared_.wide.get(), layer.down.inputs);
    meet();
    round(shared_.wide.get(), rows, layer.down);
    share(own_.block, 0, rows, layer.down, Activation::none, shared_.narrow.get(), net_.width);
    meet();
    norms(first, rows, shared_.narrow.get(), layer.output_norm);
  }

  void norms(int first, int rows, const float* y, const Norm& parameters) {
    for (int r = 0; r < rows; ++r) norm(first + r, y + ptrdiff_t(r) * net_.width, parameters);
  }

  // The inputs of a product, each group by itself.
  void round(const float* x, int rows, const Linear& reader) {
    for (int r = 0; r < rows; ++r) {
      for (int g = 0; g < reader.groups(); ++g) {
        const ptrdiff_t at = ptrdiff_t(r) * reader.inputs + g * reader.group;
        own_.block.scales.get()[g * rows + r] =
            kernels_.quantise(x + at, reader.width_of(g), own_.block.values.get() + at);
      }
    }
  }

  // This member's columns of a product.
  void share(const Rounded& a, int first, int rows, const Linear& linear, Activation activation, float* out,
             ptrdiff_t out_stride) {
    const Part part(linear.panels, rank_, members_);
    for (int i = part.begin; i < part.end; ++i) {
      product(a, first, rows, linear, i, activation, out + ptrdiff_t(i) * kPanel, out_stride);
    }
  }

  void product(const Rounded& a, int first, int rows, const Linear& linear, int panel, Activation activation,
               float* out, ptrdiff_t out_stride) {
    const int last = linear.groups() - 1;
    Base base{linear.bias + ptrdiff_t(panel) * kPanel, 0};
    for (int g = 0; g <= last; ++g) {
      kernels_.linear(a.values.get() + ptrdiff_t(first) * linear.inputs + g * linear.group, linear.inputs,
                      a.scales.get() + g * rows + first, rows, linear.width_of(g), linear.panel(panel, g), base,
                      g == last ? activation : Activation::none, out, out_stride);
      base = {out, out_stride};
    }
  }

  const Network& net_;
  const Kernels& kernels_;
  const Batch batch_;
  Workspace &own_, &shared_;
  Team* team_;
  int rank_;
  RightOfWay* way_;
  int members_ = 1, tokens_;
  bool inside_ = false;
};

// One sentence vector of token vectors [tokens, width].
void pool(const Network& net, const float* hidden, int tokens, float* out) {
  const ptrdiff_t width = net.width;
  const float* last = hidden + (tokens - 1) * width;
  switch (net.pooling) {
    case Pooling::cls:
      std::copy_n(hidden, net.size, out);
      break;
    case Pooling::last:
      std::copy_n(last, net.size, out);
      break;
    default:
      std::copy_n(hidden, net.size, out);
      for (const float* row = hidden + width; row <= last; row += width) {
        const bool largest = net.pooling == Pooling::max;
        for (int i = 0; i < net.size; ++i) out[i] = largest ? std::max(out[i], row[i]) : out[i] + row[i];
      }
      if (net.pooling == Pooling::mean)
        for (int i = 0; i < net.size; ++i) out[i] /= float(tokens);
  }
  if (!net.normalise) return;
  const float norm = std::sqrt(std::inner_product(out, out + net.size, out, 0.0f));
  for (int i = 0; i < net.size; ++i) out[i] /= std::max(norm, 1e-12f);
}

// Sequences that pass through the layers together.
struct Piece {
  int first, count, tokens;
};

std::vector<Piece> pieces_of(const Batch& batch, int most) {
  std::vector<Piece> pieces;
  for (int s = 0; s < batch.count; ++s) {
    const int tokens = batch.offsets[s + 1] - batch.offsets[s];
    if (pieces.empty() || pieces.back().tokens + tokens > most) pieces.push_back({s, 0, 0});
    ++pieces.back().count;
    pieces.back().tokens += tokens;
  }
  return pieces;
}

Batch part_of(const Batch& batch, const Piece& piece) {
  return {batch.ids, batch.offsets + piece.first, batch.types, piece.count};
}

int longest_of(const Batch& batch) {
  int longest = 1;
  for (int s = 0; s < batch.count; ++s) longest = std::max(longest, batch.offsets[s + 1] - batch.offsets[s]);
  return longest;
}

void pool_all(const Network& net, const Batch& part, const float* hidden, float* out) {
  for (int s = 0; s < part.count; ++s) {
    const int first = part.offsets[s] - part.offsets[0], tokens = part.offsets[s + 1] - part.offsets[s];
    pool(net, hidden + ptrdiff_t(first) * net.width, tokens, out + ptrdiff_t(s) * net.size);
  }
}

// The weights' pages that a pass reads first.
std::vector<const int8_t*> first_pages(const Network& net) {
  std::vector<const int8_t*> pages;
  for (const Layer& layer : net.layers) {
    for (const Linear* linear : {&layer.projection, &layer.output, &layer.up, &layer.down}) {
      const ptrdiff_t bytes = ptrdiff_t(linear->panels) * kPanel * linear->inputs;
      for (ptrdiff_t at = 0; at < bytes && pages.size() < kMostAhead; at += kPage) pages.push_back(linear->weights + at);
    }
  }
  return pages;
}

// Into the caches; a page beyond the last weights is only a page that nobody needs.
bool fetch(const int8_t* page) {
  for (int i = 0; i < kPage; i += 64) __builtin_prefetch(page + i, 0, 2);
  return true;
}

}  // namespace

Session::Session(const Network& network, const Kernels& kernels, RightOfWay& way, int threads, bool in_bulk)
    : network_(network), kernels_(kernels), way_(way), in_bulk_(in_bulk), pages_(first_pages(network)),
      team_(threads, [this](size_t i) { return i < pages_.size() && fetch(pages_[i]); }) {
  for (int i = 0; i < team_->size(); ++i) spaces_.push_back(std::make_unique<Workspace>());
}

Session::~Session() = default;

void Session::expect() {
  if (!way_.bulk_runs()) team_->expect();
}

void Session::run(const Batch& batch, float* out) {
  // Where there are pieces enough for all, each member takes whole ones; else they share the columns of each.
  const bool alone = team_->size() == 1 || (!in_bulk_ && way_.bulk_runs());
  const int parts = 2 * team_->size(), tokens = batch.offsets[batch.count] - batch.offsets[0];
  auto pieces = pieces_of(batch, alone ? kMostTokens : std::clamp(tokens / parts, kFewTokens, kMostTokens));
  const bool apart = alone || int(pieces.size()) >= parts;
  if (!apart) pieces = pieces_of(batch, kMostTokens);
  int most = 0;
  for (const Piece& piece : pieces) most = std::max(most, piece.tokens);
  for (auto& space : spaces_) space->prepare(network_, most, longest_of(batch));
  RightOfWay* way = in_bulk_ ? &way_ : nullptr;
  const RightOfWay::Turn turn(way_, in_bulk_);
  const int layers = int(network_.layers.size());
  std::atomic<size_t> next{0};
  const auto work = [&](int rank) {
    Workspace &own = *spaces_[rank], &shared = apart ? own : *spaces_[0];
    for (size_t i = apart ? next++ : 0; i < pieces.size(); i = apart ? next++ : i + 1) {
      const Batch part = part_of(batch, pieces[i]);
      Pass pass(network_, kernels_, part, own, shared, apart ? nullptr : &*team_, apart ? 0 : rank, way);
      pass.through(layers, int(i) * (layers + 1));
      if (apart || rank == 0) pool_all(network_, part, pass.hidden(), out + ptrdiff_t(pieces[i].first) * network_.size);
    }
  };
  if (alone) {
    work(0);
  } else {
    team_->run(work, !apart && tokens * network_.products() > 2 * kWakingProducts);
  }
}

void Session::hidden(const Batch& batch, int layers, float* out) {
  for (const Piece& piece : pieces_of(batch, kMostTokens)) {
    const Batch part = part_of(batch, piece);
    Workspace& space = *spaces_[0];
    space.prepare(network_, piece.tokens, longest_of(part));
    Pass pass(network_, kernels_, part, space, space, nullptr, 0, nullptr);
    pass.through(layers);
    for (int t = 0; t < piece.tokens; ++t, out += network_.size) {
      std::copy_n(pass.hidden() + ptrdiff_t(t) * network_.width, network_.size, out);
    }
  }
}

}  // namespace nimbed
