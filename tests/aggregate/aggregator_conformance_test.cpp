// What every aggregator must do, whatever it is.
#include <catch2/catch.hpp>
#include <cmath>

#include "aggregate/aggregator.hpp"
#include "base/rng.hpp"
#include "support/plugin.hpp"

using namespace fedctl;
using aggregate::Contribution;

namespace {

std::unique_ptr<aggregate::Aggregator> make(const aggregate::AggregatorEntry& entry) {
  return entry.make(*test::plugin(aggregate::aggregator_kinds(), entry.kind.name).options);
}

// Some clients with random vectors and example counts.
struct Clients {
  std::vector<std::vector<float>> vectors;
  std::vector<double> weights;

  Clients(std::size_t count, std::size_t size, std::uint64_t seed) {
    Rng rng(seed);
    for (std::size_t client = 0; client < count; ++client) {
      auto& vector = vectors.emplace_back(size);
      for (float& value : vector) value = static_cast<float>(rng.normal());
      weights.push_back(static_cast<double>(1 + rng.below(50)));
    }
  }
  std::vector<Contribution> contributions(double weight_factor = 1) const {
    std::vector<Contribution> all;
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      all.push_back({static_cast<std::int64_t>(i), weights[i] * weight_factor, vectors[i]});
    }
    return all;
  }
};

std::vector<float> combine(const aggregate::AggregatorEntry& entry,
                           const std::vector<Contribution>& in) {
  std::vector<float> out(in.front().values.size(), std::nanf(""));
  make(entry)->combine(in, out);
  return out;
}

}  // namespace

TEST_CASE("which peer sent what does not matter", "[aggregate][conformance][property]") {
  const std::uint64_t seed = GENERATE(range<std::uint64_t>(0, 5));
  const Clients clients(9, 2500, seed);
  for (const aggregate::AggregatorEntry& entry : aggregate::aggregators()) {
    INFO(entry.kind.name << ", seed " << seed);
    const auto in = clients.contributions();
    auto moved = in;
    Rng(seed).shuffle(std::span(moved));
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i].from = static_cast<std::int64_t>(i);
    const auto expected = combine(entry, in);
    const auto out = combine(entry, moved);
    for (std::size_t i = 0; i < out.size(); ++i) {
      REQUIRE(out[i] == Approx(expected[i]).epsilon(1e-6).margin(1e-7));
    }
    CHECK(combine(entry, in) == expected);
  }
}

TEST_CASE("one by one gives what all at once gives, bit for bit", "[aggregate][conformance]") {
  const std::size_t count = GENERATE(0, 1, 1023, 2500, 65536, 70000);
  const Clients clients(9, count, 6);
  for (const aggregate::AggregatorEntry& entry : aggregate::aggregators()) {
    INFO(entry.kind.name << ", " << count << " values");
    const auto rule = make(entry);
    const auto running = rule->start(count);
    for (const Contribution& next : clients.contributions()) {
      std::vector<float> values(next.values.begin(), next.values.end());
      running->add({next.from, next.weight, values});
      std::ranges::fill(values, std::nanf(""));  // gone
    }
    std::vector<float> out(count);
    running->finish(out);
    CHECK(out == combine(entry, clients.contributions()));
  }
}

TEST_CASE("identical inputs are a fixed point, bit for bit", "[aggregate][conformance]") {
  Clients clients(7, 1500, 3);
  for (auto& vector : clients.vectors) vector = clients.vectors[0];
  for (const aggregate::AggregatorEntry& entry : aggregate::aggregators()) {
    INFO(entry.kind.name);
    CHECK(combine(entry, clients.contributions()) == clients.vectors[0]);
    CHECK(combine(entry, {{5, 0.1, clients.vectors[0]}}) == clients.vectors[0]);
  }
}

TEST_CASE("only the proportions of the weights matter", "[aggregate][conformance]") {
  const Clients clients(6, 1100, 4);
  for (const aggregate::AggregatorEntry& entry : aggregate::aggregators()) {
    INFO(entry.kind.name);
    const auto expected = combine(entry, clients.contributions());
    CHECK(combine(entry, clients.contributions(0.25)) == expected);
    const auto out = combine(entry, clients.contributions(7.3));
    for (std::size_t i = 0; i < out.size(); ++i) {
      REQUIRE(out[i] == Approx(expected[i]).epsilon(1e-6).margin(1e-7));
    }
  }
}

TEST_CASE("every result lies within the inputs", "[aggregate][conformance]") {
  const Clients clients(5, 300, 5);
  for (const aggregate::AggregatorEntry& entry : aggregate::aggregators()) {
    INFO(entry.kind.name);
    const auto out = combine(entry, clients.contributions());
    for (std::size_t i = 0; i < out.size(); ++i) {
      float low = clients.vectors[0][i], high = low;
      for (const auto& vector : clients.vectors) {
        low = std::min(low, vector[i]);
        high = std::max(high, vector[i]);
      }
      REQUIRE((out[i] >= low && out[i] <= high));
    }
  }
}

TEST_CASE("no values are combined to no values", "[aggregate][conformance]") {
  for (const aggregate::AggregatorEntry& entry : aggregate::aggregators()) {
    INFO(entry.kind.name);
    CHECK(combine(entry, {{0, 1, {}}, {1, 2, {}}}).empty());
  }
}
