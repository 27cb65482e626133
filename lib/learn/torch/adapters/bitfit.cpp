// bitfit: Ben Zaken, Goldberg, Ravfogel, "BitFit: simple parameter-efficient fine-tuning for
// transformer-based masked language-models", ACL 2022, arXiv 2106.10199: the biases of the model
// are trained, and the output layer. PEFT has no such type; the model is saved as a whole.
#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {
namespace {

class Bitfit final : public Adapter {
 public:
  explicit Bitfit(const BitfitOptions& options) : options_(options) {}
  bool trains_biases() const override { return true; }
  bool trains_head() const override { return options_.train_head; }

 private:
  BitfitOptions options_;
};

}  // namespace

std::unique_ptr<Adapter> make_bitfit(const config::Options& options) {
  return std::make_unique<Bitfit>(dynamic_cast<const BitfitOptions&>(options));
}

}  // namespace fedctl::learn
