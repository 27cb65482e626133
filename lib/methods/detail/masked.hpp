// Secure aggregation of a round: the server learns the weighted mean of the clients' updates and no
// update by itself. Bonawitz et al., CCS 2017, with Bell et al., CCS 2020 (SecAgg+), for methods
// whose server only needs that mean. docs/secure-aggregation.md.
//
//   ask          answer         stage
//   "keys"       "keys"         0   {u8 "keys": open keys for letters and for masks, 64 bytes}
//   "shares"     "shares"       1   asked with the neighbours' ids and open keys; sealed for each
//                                   of them, in order: its shares of the own mask key and own seed
//   task         "masked"       2   asked with the letters of the neighbours that wrote; u8
//                                   "words": the update as integers, plus all masks, packed
//   "unmask"     "unmask"       3   asked with the neighbours whose words arrived, and those whose
//                                   did not; u8 "shares": of the seeds of the former and the mask
//                                   keys of the latter
#pragma once

#include <optional>

#include "methods/detail/exchanges.hpp"
#include "methods/method.hpp"
#include "secure/masks.hpp"
#include "secure/shamir.hpp"

namespace fedctl::methods {

// A sealed letter: a share of the sender's mask key and one of its seed.
inline constexpr std::size_t kLetterBytes = 2 * secure::kShareBytes + secure::kSealBytes;
// What two clients' key of a round is for: "letters", "mask".
inline std::string purpose(const char* what, std::int64_t round) {
  return std::string(what) + ' ' + std::to_string(round);
}

// An update as integers and back: all float32 tensors by name, one behind the other, rotated
// (codec/detail/hadamard.hpp) if `rotate` is set; a share `ratio` of these values times the
// client's weight; then the loss times it, then the weight. Rotation and share are the same for all
// clients of a round, so the sum of the integers is the integers' sum of the rotated updates.
class MaskedForm {
 public:
  MaskedForm(const JobPlan& plan, std::int64_t round);

  unsigned bits() const { return quantizer_.bits(); }
  // Words of an update of so many values.
  std::size_t count(std::size_t values) const;
  // Stochastic rounding by `rng`. Examples beyond plan.examples_max weigh no more than these.
  // Throws WireError on values too large for a rotation.
  std::vector<std::uint32_t> words(const Message& update, Rng rng) const;
  // The mean update of `clients`: tensors shaped like those of `like`, values that were not sent 0
  // and the others 1 / ratio as large, then turned back; "examples" their estimated number, "loss"
  // the mean. Throws ProtocolError on sums that cannot be.
  Message mean(std::span<const std::uint32_t> sums, std::size_t clients, const Message& like) const;

  Bytes pack(std::span<const std::uint32_t> words) const;
  // Throws WireError unless they are `count` packed words.
  std::vector<std::uint32_t> unpack(ByteView bytes, std::size_t count) const;

 private:
  // Which of so many values are sent, ascending.
  std::vector<std::size_t> sent(std::size_t values) const;

  SecurePlan plan_;
  secure::Quantizer quantizer_;
  Rng support_;
  std::uint64_t rotation_;  // seed
};

// One client's part. Its secrets live as long as the round, in memory alone.
class MaskedClient {
 public:
  // The answer to "keys", "shares" or "unmask"; nullopt if the message is none of these. Throws
  // ProtocolError on a question that must not be answered.
  std::optional<Message> answer(const Message& question, const JobPlan& plan);
  // The update as masked words.
  Message mask(const Message& task, const Message& update, const JobPlan& plan, Rng rng);

 private:
  struct Neighbour {
    PeerId id = 0;
    secure::Key letters{}, masks{};          // its open keys
    std::optional<secure::Share> key, seed;  // its secrets' shares that this client holds
  };
  Neighbour& neighbour(PeerId id);

  std::int64_t round_ = 0;
  PeerId id_ = -1;
  secure::KeyPair letters_, masks_;
  secure::Key seed_{};
  std::vector<Neighbour> neighbours_;
  bool masked_ = false, unmasked_ = false;
};

// What came of a round.
struct MaskedRound {
  talk::Answers answers;        // replies: of everyone whose words are in the sum, without them
  std::optional<Message> mean;  // of these; nullopt: too few are left at some stage
  std::string why;              // then
};
// Stages 0 to 3, each until `seconds` after its questions. `like` has the tensors of an update.
Task<MaskedRound> ask_masked(Endpoint& net, const JobPlan& plan, Attempt attempt,
                             const talk::Requests& tasks, double seconds_each, const Message& like);

}  // namespace fedctl::methods
