// Secure aggregation of a round: the server learns the weighted mean of the clients' updates and no
// update by itself. Bonawitz et al., CCS 2017, with Bell et al., CCS 2020 (SecAgg+), for methods
// whose server only needs that mean. docs/secure-aggregation.md.
//
//   ask          answer         stage
//   "keys"       "keys"         0   {u8 "keys": open keys for letters and for masks, 64 bytes; with
//                                   certificates u8 "proof" that they are this client's}
//   "shares"     "shares"       1   asked with the neighbours' ids, open keys and proofs; sealed
//   for
//                                   each of them, in order: its shares of the own mask key and seed
//   task         "masked"       2   asked with the letters of the neighbours that wrote; u8
//                                   "words": the update as integers, plus all masks, packed; u8
//                                   "forged": whose letters cannot be opened, if there are any
//   "unmask"     "unmask"       3   asked with the neighbours whose words arrived, and those whose
//                                   did not; u8 "shares": of the seeds of the former and the mask
//                                   keys of the latter
//
// Up to stage 2 nothing is known of any update: a round that breaks there begins anew, with fresh
// keys. A client answers stage 3 of a round once, whatever comes of it: the sums of the same
// updates over two sets of clients would tell their difference.
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

// Fewest neighbours that a client may have: a sum is of plan.quorum_count() updates at least.
std::size_t neighbours_min(const JobPlan& plan);
// How many of a client's neighbours must be left behind a stage.
std::size_t left_min(const JobPlan& plan, std::size_t neighbours);
// What a client vouches for: that these are its keys of this try at a round.
Bytes keys_statement(Attempt attempt, PeerId client, ByteView keys);

// A question whose beginning this client has not seen: it cannot take part in this try.
class Behind : public ProtocolError {
  using ProtocolError::ProtocolError;
};

// One client's part. Its secrets live as long as the round, in memory alone.
class MaskedClient {
 public:
  // `unmasked`: the last round in which it has answered the last stage; kept up to date. What they
  // refer to outlives it.
  MaskedClient(const JobPlan& plan, PeerId id, const Vouching& vouching, std::int64_t& unmasked)
      : plan_(&plan), id_(id), vouching_(&vouching), unmasked_(&unmasked) {}

  // The answer to "keys", "shares" or "unmask"; nullopt if the message is none of these. Throws
  // ProtocolError on a question that must not be answered, Behind on one that cannot be.
  std::optional<Message> answer(const Message& question);
  // The letters that came with a task; before the work, which is in vain if this throws, as above.
  void read_letters(const Message& task);
  // The update as masked words. Precondition: read_letters().
  Message mask(const Message& update, Rng rng);

 private:
  struct Neighbour {
    PeerId id = 0;
    secure::Key letters{}, masks{};  // its open keys
    bool wrote = false;
    std::optional<secure::Share> key, seed;  // its secrets' shares that this client holds
  };
  Message make_keys(const Message& question);
  Message write_letters(const Message& question);
  std::vector<Neighbour> meet(const Message& question) const;
  std::string letters_purpose(const std::vector<Neighbour>& met) const;
  Message unmask(const Message& question);
  Neighbour& neighbour(PeerId id);

  const JobPlan* plan_;
  PeerId id_;
  const Vouching* vouching_;
  std::int64_t* unmasked_;
  Attempt attempt_{0};
  secure::KeyPair letters_, masks_;
  secure::Key seed_{};
  std::vector<Neighbour> neighbours_;
  std::size_t threshold_ = 0;
  std::string letters_purpose_;
  bool read_ = false, masked_ = false;
};

// What came of a try at a round.
struct MaskedRound {
  talk::Answers answers;        // replies: of everyone whose words are in the sum, without them
  std::optional<Message> mean;  // of these; nullopt: there is none
  std::string why;              // then
  // The last stage has been asked, now or by a server before this one: clients do not take part in
  // this round any more.
  bool spent = false;
};
// Stages 0 to 3, each until `seconds` after its questions. `like` has the tensors of an update.
Task<MaskedRound> ask_masked(Endpoint& net, const JobPlan& plan, Attempt attempt,
                             const talk::Requests& tasks, double seconds_each, const Message& like,
                             const Vouching& vouching);

}  // namespace fedctl::methods
