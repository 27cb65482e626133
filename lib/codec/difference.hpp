// Difference: codes the change since the last message; both sides remember what was decoded.
//
// With h, what the receiver decoded last (at first 0, or what both sides know), e, the error so far, and g the values to be
// sent:
//   p = eta e + g - h,   q = C(p) is sent,   e <- e + g - h - q,   h <- h + q
// and the receiver decodes h + q. eta = 0 is EF21 (Richtarik, Sokolov, Fatkhullin, NeurIPS 2021,
// arXiv 2106.05203, algorithm 2): e is not needed then. eta > 0 is EControl (Gao, Islamov, Stich,
// ICLR 2024, arXiv 2311.05645, algorithm 1), with eta at most delta, the contraction of C.
// h converges to g when g does, so the error vanishes and unequal clients do not stall the model,
// which the decayed or plain residual of ef14 does (docs/codecs.md).
//
// Every message begins with the stamp of the h it builds on: 0 for none, else a hash of all that
// was sent since. The receiver refuses another stamp than its own; it tells the sender its stamp
// (CodecEndpoint), and the sender then goes on, takes its last message back, or begins anew.
//
// Bytes: u32 stamp, then those of C(p).
// Memory: the receiver 4 bytes a value and sender; the sender 8, with EControl 16.
//
// Deviation from the papers: h starts at 0, not at C(g) or g; the server averages the h of the
// clients that answered, not of all.
#pragma once

#include <optional>

#include "codec/codec.hpp"

namespace fedctl::codec {

class Difference final : public Codec {
 public:
  // EControl's gain. kMeasured: a quarter of the least contraction of any message so far; half of
  // it is unstable where the messages become sparse by themselves (measured).
  static constexpr double kMeasured = -1;

  // eta: 0, kMeasured, or in (0, 1].
  Difference(std::unique_ptr<Codec> inner, std::size_t count, double eta);

  std::size_t max_encoded_bytes(std::size_t count) const override;
  Bytes encode(std::span<const float> values, Rng& rng) override;
  void decode(ByteView encoded, std::span<float> out) const override;
  std::vector<float> state() const override;
  void restore(std::span<const float> state) override;
  void received(ByteView encoded, std::span<const float> decoded) override;
  std::uint32_t stamp() const override { return now_.stamp; }
  void synchronise(std::uint32_t known) override;
  // Precondition: nothing was encoded or received yet.
  void start_from(std::span<const float> values) override;

 private:
  struct Memory {
    std::uint32_t stamp = 0;            // below 2^24, so that a float holds it
    float contraction = 0;              // 1 - |p - q|^2 / |p|^2 of the last message
    std::vector<float> decoded, error;  // h, e
  };
  Memory fresh() const;

  std::unique_ptr<Codec> inner_;
  std::size_t count_;
  double eta_;
  std::vector<float> start_;  // h before the first message
  Memory now_;
  std::optional<Memory> before_;  // the sender's, until it knows that its last message arrived
};

}  // namespace fedctl::codec
