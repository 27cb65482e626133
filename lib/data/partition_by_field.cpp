// by_field: the examples' natural owners (a hand, a speaking role) are the clients: owner i is
// client i, in natural order; with more owners than clients, owner i goes to client i % clients.
#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>

#include "base/errors.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

struct ByFieldOptions final : config::Options {
  std::int64_t min_size = 1;
  void fields(config::Fields& fields) override {
    fields.integer("min_size", min_size, {1, 1'000'000'000},
                   "owners with fewer examples are left out");
  }
};

// "hand 2" before "hand 12": runs of digits compare as numbers.
bool natural_less(const std::string& a, const std::string& b) {
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      const auto number = [&](const std::string& text, std::size_t& at) {
        while (at < text.size() && text[at] == '0') ++at;
        const std::size_t start = at;
        while (at < text.size() && digit(text[at])) ++at;
        return std::string_view(text).substr(start, at - start);
      };
      const std::string_view x = number(a, i), y = number(b, j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
    }
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;
}

std::vector<std::vector<std::size_t>> split(const config::Options& given, const Dataset& train,
                                            std::size_t clients, Rng) {
  const auto smallest =
      static_cast<std::size_t>(dynamic_cast<const ByFieldOptions&>(given).min_size);
  std::map<std::string, std::vector<std::size_t>, decltype(&natural_less)> owners(natural_less);
  for (std::size_t index = 0; index < train.size(); ++index)
    owners[train.field(index)].push_back(index);
  std::erase_if(owners, [&](const auto& owner) { return owner.second.size() < smallest; });
  if (clients > owners.size()) {
    throw ConfigError(
        "data.partition: by_field finds " + std::to_string(owners.size()) + " owners of at least " +
            std::to_string(smallest) + " examples, clients.count is " + std::to_string(clients),
        owners.size() < 2 ? "choose another partitioner: the data name no owners"
                          : "lower clients.count to at most " + std::to_string(owners.size()));
  }
  std::vector<std::vector<std::size_t>> lists(clients);
  std::size_t next = 0;
  for (const auto& [owner, members] : owners) {
    auto& list = lists[next++ % clients];
    list.insert(list.end(), members.begin(), members.end());
  }
  for (auto& list : lists) std::ranges::sort(list);
  return lists;
}

}  // namespace

PartitionerEntry partition_by_field();
PartitionerEntry partition_by_field() {
  return {{"by_field", "natural owners are the clients, in natural order", "",
           [] { return std::make_unique<ByFieldOptions>(); }},
          split};
}

}  // namespace fedctl::data
