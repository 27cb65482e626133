#include <algorithm>

#include "methods/detail/ids.hpp"
#include "methods/detail/masked.hpp"
#include "methods/detail/scalars.hpp"

namespace fedctl::methods {
namespace {

using secure::Key;

Key key_in(ByteReader& in) {
  Key key;
  std::ranges::copy(in.raw(key.size()), key.begin());
  return key;
}

}  // namespace

MaskedClient::Neighbour& MaskedClient::neighbour(PeerId id) {
  const auto found = std::ranges::find(neighbours_, id, &Neighbour::id);
  if (found == neighbours_.end()) {
    throw ProtocolError("client " + std::to_string(id) + " is no neighbour in this round");
  }
  return *found;
}

std::optional<Message> MaskedClient::answer(const Message& question, const JobPlan& plan) {
  if (question.kind == "keys") {
    round_ = wire::Expect(question, "keys").integer("round", 1, INT64_MAX);
    letters_ = secure::make_pair();
    masks_ = secure::make_pair();
    seed_ = secure::random_key();
    neighbours_.clear();
    masked_ = unmasked_ = false;
    Bytes keys(letters_.open.begin(), letters_.open.end());
    keys.insert(keys.end(), masks_.open.begin(), masks_.open.end());
    return Message("keys").with("keys", tensor_of(std::move(keys)));
  }
  if (question.kind == "shares") {
    const wire::Expect fields(question, "shares");
    if (fields.integer("round", 1, INT64_MAX) != round_ || !neighbours_.empty()) {
      throw ProtocolError("it has no keys for this round");
    }
    id_ = fields.integer("self", 0, limits::kClientsMax);
    const std::vector<PeerId> ids = ids_in(bytes_in(question, "peers"));
    ByteReader keys(bytes_in(question, "keys"));
    for (const PeerId id : ids) {
      Neighbour one;
      one.id = id;
      one.letters = key_in(keys);
      one.masks = key_in(keys);
      if (id == id_ || (!neighbours_.empty() && id <= neighbours_.back().id)) {
        throw ProtocolError("neighbours are not in order");
      }
      for (const Neighbour& other : neighbours_) {
        if (other.masks == one.masks || other.letters == one.letters) {
          throw ProtocolError("two neighbours have the same key");
        }
      }
      neighbours_.push_back(one);
    }
    // What the server may not choose: how many must agree before a mask falls.
    const auto threshold = static_cast<std::size_t>(fields.integer(
        "threshold", 1, std::max<std::int64_t>(1, static_cast<std::int64_t>(ids.size()))));
    if (ids.empty()) throw ProtocolError("it has no neighbour to hide among");
    if (threshold < plan.secure.threshold_of(ids.size())) {
      throw ProtocolError("a threshold of " + std::to_string(threshold) + ", the plan says " +
                          std::to_string(plan.secure.threshold_of(ids.size())));
    }
    const auto keys_shares = secure::split(masks_.secret, threshold, ids.size());
    const auto seed_shares = secure::split(seed_, threshold, ids.size());
    Bytes letters;
    for (std::size_t n = 0; n < ids.size(); ++n) {
      const auto key = secure::agree(letters_.secret, letters_.open, neighbours_[n].letters,
                                     purpose("letters", round_));
      if (!key) throw ProtocolError("a neighbour's key is of small order");
      Bytes plain;
      secure::write_share(keys_shares[n], plain);
      secure::write_share(seed_shares[n], plain);
      const Bytes sealed = secure::seal(*key, plain);
      letters.insert(letters.end(), sealed.begin(), sealed.end());
    }
    return Message("shares").with("letters", tensor_of(std::move(letters)));
  }
  if (question.kind != "unmask") return std::nullopt;
  if (!masked_ || unmasked_ ||
      wire::Expect(question, "unmask").integer("round", 1, INT64_MAX) != round_) {
    throw ProtocolError("it has nothing to unmask, or has done so already");
  }
  const std::vector<PeerId> alive = ids_in(bytes_in(question, "alive"));
  const std::vector<PeerId> lost = ids_in(bytes_in(question, "lost"));
  for (const PeerId id : lost) {
    if (std::ranges::find(alive, id) != alive.end()) {
      throw ProtocolError("both shares of client " + std::to_string(id) + " are asked for");
    }
  }
  Bytes shares;
  for (const auto* ids : {&alive, &lost}) {
    for (const PeerId id : *ids) {
      const Neighbour& one = neighbour(id);
      const auto& share = ids == &alive ? one.seed : one.key;
      if (!share) throw ProtocolError("it holds no share of client " + std::to_string(id));
      secure::write_share(*share, shares);
    }
  }
  unmasked_ = true;
  return Message("unmask").with("shares", tensor_of(std::move(shares)));
}

Message MaskedClient::mask(const Message& task, const Message& update, const JobPlan& plan,
                           Rng rng) {
  if (neighbours_.empty() || masked_) throw ProtocolError("it has no masks for this round");
  const std::vector<PeerId> writers = ids_in(bytes_in(task, "letters_from"));
  ByteReader letters(bytes_in(task, "letters"));
  const MaskedForm form(plan, round_);
  std::vector<std::uint32_t> words = form.words(update, rng);
  secure::add_mask(seed_, true, form.bits(), words);
  for (const PeerId id : writers) {
    Neighbour& one = neighbour(id);
    if (one.key) throw ProtocolError("two letters of client " + std::to_string(id));
    const auto key =
        secure::agree(letters_.secret, letters_.open, one.letters, purpose("letters", round_));
    const auto plain = secure::open_sealed(*key, letters.raw(kLetterBytes));
    if (!plain) throw ProtocolError("the letter of client " + std::to_string(id) + " is forged");
    ByteReader shares(*plain);
    one.key = secure::read_share(shares);
    one.seed = secure::read_share(shares);
    const auto seed = secure::agree(masks_.secret, masks_.open, one.masks, purpose("mask", round_));
    if (!seed) throw ProtocolError("a neighbour's key is of small order");
    secure::add_mask(*seed, id < id_, form.bits(), words);
  }
  if (writers.size() < plan.secure.threshold_of(neighbours_.size())) {
    throw ProtocolError("too few neighbours are left");
  }
  masked_ = true;
  return Message("masked").with("words", tensor_of(form.pack(words)));
}

}  // namespace fedctl::methods
