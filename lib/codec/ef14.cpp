// ef14: error feedback in its first form (Seide, Fu, Droppo, Li, Yu, "1-bit stochastic gradient
// descent", Interspeech 2014; Karimireddy, Rebjock, Stich, Jaggi, ICML 2019, arXiv 1901.09847,
// algorithm 2).
//
// With a residual e, zero at first, and x the values to be sent:
//   send C(x + e),   e <- x + e - decoded
// so what has been sent so far is the sum of all x less the present e: nothing is lost, only late.
// A message that was not used (its round was over) is taken back into e.
// Bytes: those of C. Memory: 4 bytes a value at the sender, none at the receiver.

#include <cmath>

#include "base/assert.hpp"
#include "codec/codec.hpp"
#include "codec/error_feedback.hpp"

namespace fedctl::codec {
namespace {

class Ef14 final : public Codec {
 public:
  Ef14(std::unique_ptr<Codec> inner, std::size_t count)
      : inner_(std::move(inner)), residual_(count) {}

  std::size_t max_encoded_bytes(std::size_t count) const override {
    return inner_->max_encoded_bytes(count);
  }

  // Throws before the residual changes.
  Bytes encode(std::span<const float> values, Rng& rng) override {
    FEDCTL_ASSERT(values.size() == residual_.size());
    std::vector<float> wanted(values.begin(), values.end());
    for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] += residual_[i];
    Bytes encoded = inner_->encode(wanted, rng);
    std::vector<float> decoded(wanted.size());
    inner_->decode(encoded, decoded);
    for (std::size_t i = 0; i < wanted.size(); ++i) residual_[i] = wanted[i] - decoded[i];
    return encoded;
  }

  void decode(ByteView encoded, std::span<float> out) const override {
    inner_->decode(encoded, out);
  }

  // e <- e + decoded, which is x + e of then.
  bool takes_back() const override { return true; }
  void take_back(ByteView encoded) override {
    std::vector<float> decoded(residual_.size());
    inner_->decode(encoded, decoded);
    for (std::size_t i = 0; i < decoded.size(); ++i) residual_[i] += decoded[i];
  }

  std::vector<float> state() const override { return residual_; }

  void restore(std::span<const float> state) override {
    if (state.size() != residual_.size()) {
      throw WireError("ef14: a residual of " + std::to_string(state.size()) + " values, expected " +
                      std::to_string(residual_.size()));
    }
    for (const float value : state) {
      if (!std::isfinite(value)) throw WireError("ef14: the residual is not finite");
    }
    residual_.assign(state.begin(), state.end());
  }

 private:
  std::unique_ptr<Codec> inner_;
  std::vector<float> residual_;  // e
};

}  // namespace

ErrorFeedbackEntry ef14() {
  return {.name = "ef14",
          .summary = "adds what was lost to the next message",
          .paper = "Seide et al., Interspeech 2014; Karimireddy et al., arXiv 1901.09847",
          .wrap = [](std::unique_ptr<Codec> inner, std::size_t count) {
            return std::make_unique<Ef14>(std::move(inner), count);
          }};
}

}  // namespace fedctl::codec
