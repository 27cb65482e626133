// feature_noise: the same labels, inputs of unequal quality: an even random deal, and Gaussian
// noise on the inputs of client i, of standard deviation sigma * i / (clients - 1) (Li, Diao, Chen,
// He, "Federated learning on non-IID data silos", ICDE 2022, arXiv 2102.02079, section 4,
// noise-based feature imbalance). An example's noise never changes: it is named by client and
// example.
//
// Deviation: the paper's party i of N, from 1, has noise of *variance* sigma * i / N.
#include <algorithm>

#include "base/errors.hpp"
#include "data/detail/even_deal.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

struct FeatureNoiseOptions final : config::Options {
  double sigma = 0.1;
  void fields(config::Fields& fields) override {
    fields.real("sigma", sigma, {.min = 0, .max = 1e6},
                "standard deviation of the last client's noise; client 0 has none");
  }
};

std::vector<std::vector<std::size_t>> split(const config::Options&, const Dataset& train,
                                            std::size_t clients, Rng rng) {
  return even_deal(train.size(), clients, rng);
}

class Noisy final : public Dataset {
 public:
  Noisy(std::unique_ptr<Dataset> inner, const std::vector<Share>& shares, double sigma, Rng rng)
      : inner_(std::move(inner)),
        owners_(inner_->size(), 0),
        step_(shares.size() > 1 ? sigma / static_cast<double>(shares.size() - 1) : 0),
        rng_(rng) {
    for (std::size_t client = 0; client < shares.size(); ++client) {
      for (const auto* list : {&shares[client].train, &shares[client].holdout}) {
        for (const std::size_t index : *list) owners_[index] = static_cast<std::uint32_t>(client);
      }
    }
  }

  const DatasetInfo& info() const override { return inner_->info(); }
  std::size_t size() const override { return inner_->size(); }
  std::int64_t label(std::size_t index) const override { return inner_->label(index); }
  std::size_t length(std::size_t index) const override { return inner_->length(index); }
  std::string field(std::size_t index) const override { return inner_->field(index); }

  Batch gather(std::span<const std::size_t> indices) const override {
    Batch batch = inner_->gather(indices);
    for (auto& [name, tensor] : batch) {
      if (tensor.dtype != DType::f32) continue;
      const std::span<float> values = tensor.f32();
      const std::size_t each = values.size() / indices.size();
      for (std::size_t i = 0; i < indices.size(); ++i) {
        const std::uint32_t owner = owners_[indices[i]];
        const double deviation = step_ * owner;
        if (deviation <= 0) continue;
        Rng noise = rng_.stream("noise", owner, indices[i]);
        for (float& value : values.subspan(i * each, each))
          value += static_cast<float>(deviation * noise.normal());
      }
    }
    return batch;
  }

 private:
  std::unique_ptr<Dataset> inner_;
  std::vector<std::uint32_t> owners_;  // by index
  double step_;                        // deviation from one client to the next
  Rng rng_;
};

std::unique_ptr<Dataset> wrap(const config::Options& given, std::unique_ptr<Dataset> train,
                              const std::vector<Share>& shares, Rng rng) {
  if (train->info().task != Task::classify || train->info().input_shape.empty()) {
    throw ConfigError("data.partition.kind is feature_noise, but the inputs are not numbers",
                      "it fits images and features, not texts");
  }
  const double sigma = dynamic_cast<const FeatureNoiseOptions&>(given).sigma;
  return std::make_unique<Noisy>(std::move(train), shares, sigma, rng);
}

}  // namespace

PartitionerEntry partition_feature_noise();
PartitionerEntry partition_feature_noise() {
  return {
      {"feature_noise", "an even deal, with more noise on the inputs from client to client",
       "Li et al. 2022, arXiv 2102.02079", [] { return std::make_unique<FeatureNoiseOptions>(); }},
      split,
      wrap};
}

}  // namespace fedctl::data
