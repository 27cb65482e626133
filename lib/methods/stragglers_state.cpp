// Stragglers in a checkpoint.
#include <bit>
#include <cmath>

#include "base/limits.hpp"
#include "methods/stragglers.hpp"

namespace fedctl::methods {
namespace {

// Doubles stand in the table by their bits.
std::int64_t bits(double value) { return std::bit_cast<std::int64_t>(value); }

// Reads one row. Throws WireError.
class Row {
 public:
  explicit Row(std::span<const std::int64_t> row) : row_(row) {}
  std::int64_t integer(std::int64_t max = INT64_MAX) {
    const std::int64_t value = row_[at_++];
    if (value < 0 || value > max) throw WireError("stragglers: " + std::to_string(value));
    return value;
  }
  bool flag() { return integer(1) == 1; }
  double real() {
    const auto value = std::bit_cast<double>(row_[at_++]);
    if (!(value >= 0) || std::isinf(value)) throw WireError("stragglers: no time");
    return value;
  }

 private:
  std::span<const std::int64_t> row_;
  std::size_t at_ = 0;
};

}  // namespace

talk::Message Stragglers::save() const {
  std::vector<std::int64_t> rows;
  for (const auto& [peer, client] : clients_) {
    rows.insert(rows.end(),
                {peer, client.answers, bits(client.usual), bits(client.spread), client.strikes,
                 bits(client.held), client.anew, client.slow_rounds, client.chronic,
                 client.isolations, client.until, client.probe, client.clean, client.unused});
    for (std::size_t i = 0; i < kDropsMax; ++i) {
      rows.push_back(i < client.drops.size() ? client.drops[i] : 0);
    }
    auto question = client.open.begin();
    for (std::size_t i = 0; i < kOpenMax; ++i) {
      if (question == client.open.end()) {
        rows.insert(rows.end(), {0, 0, 0, 0});
        continue;
      }
      const Open& open = question->second;
      rows.insert(rows.end(),
                  {question->first, bits(open.age), bits(open.limit),
                   (open.excused ? 1 : 0) + (open.struck ? 2 : 0) + (open.lenient ? 4 : 0)});
      ++question;
    }
  }
  const auto count = static_cast<std::int64_t>(clients_.size());
  return talk::Message("stragglers")
      .with("drop_share", drop_share_)
      .with("clients", Tensor::of(rows, {count, static_cast<std::int64_t>(kColumns)}));
}

void Stragglers::load(const talk::Message& state) {
  drop_share_ = wire::Expect(state, "stragglers").real("drop_share");
  const auto found = state.tensors.find("clients");
  if (found == state.tensors.end() || found->second.dtype != DType::i64 ||
      found->second.i64().size() % kColumns != 0) {
    throw WireError("stragglers: no clients");
  }
  const std::span<const std::int64_t> rows = found->second.i64();
  clients_.clear();
  for (std::size_t at = 0; at < rows.size(); at += kColumns) {
    Row row(rows.subspan(at, kColumns));
    Client& client = clients_[row.integer(limits::kClientsMax)];
    client.answers = row.integer();
    client.usual = row.real();
    client.spread = row.real();
    client.strikes = row.integer();
    client.held = row.real();
    client.anew = row.flag();
    client.slow_rounds = row.integer();
    client.chronic = row.flag();
    client.isolations = row.integer(kIsolationsMax);
    client.until = row.integer();
    client.probe = row.flag();
    client.clean = row.integer();
    client.unused = row.integer();
    for (std::size_t i = 0; i < kDropsMax; ++i) {
      if (const std::int64_t round = row.integer(); round > 0) client.drops.push_back(round);
    }
    for (std::size_t i = 0; i < kOpenMax; ++i) {
      const std::int64_t round = row.integer();
      const double age = row.real(), limit = row.real();
      const std::int64_t flags = row.integer(7);
      if (round > 0)
        client.open[round] = {age, limit, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0};
    }
  }
}

}  // namespace fedctl::methods
