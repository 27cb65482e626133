#include <algorithm>

#include "base/digest.hpp"
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

std::string named(PeerId id) { return "client " + std::to_string(id); }

void require_enough(std::size_t count, std::size_t min, const char* of) {
  if (count >= min) return;
  throw ProtocolError(std::to_string(count) + ' ' + of + ", the plan says " + std::to_string(min) +
                      " at least");
}

}  // namespace

std::size_t neighbours_min(const JobPlan& plan) {
  const auto others = static_cast<std::size_t>(plan.quorum_count() - 1);
  return plan.secure.few == 0 ? others : std::min(plan.secure.few, others);
}

std::size_t left_min(const JobPlan& plan, std::size_t neighbours) {
  const std::size_t threshold = plan.secure.threshold_of(neighbours);
  return plan.secure.few == 0 ? std::max(threshold, neighbours_min(plan)) : threshold;
}

Bytes keys_statement(Attempt attempt, PeerId client, ByteView keys) {
  Bytes statement;
  ByteWriter writer(statement);
  writer.text("secure aggregation: keys");
  writer.number(attempt.round);
  writer.number(attempt.before);
  writer.number(client);
  writer.raw(keys);
  return statement;
}

MaskedClient::Neighbour& MaskedClient::neighbour(PeerId id) {
  const auto found = std::ranges::find(neighbours_, id, &Neighbour::id);
  if (found == neighbours_.end()) throw ProtocolError(named(id) + " is no neighbour in this round");
  return *found;
}

std::optional<Message> MaskedClient::answer(const Message& question) {
  if (question.kind == "keys") return make_keys(question);
  if (question.kind == "shares") return write_letters(question);
  if (question.kind == "unmask") return unmask(question);
  return std::nullopt;
}

Message MaskedClient::make_keys(const Message& question) {
  const wire::Expect fields(question, "keys");
  const std::int64_t round = fields.integer("round", 1, INT64_MAX);
  const std::int64_t before =
      question.scalars.contains("attempt") ? fields.integer("attempt", 1, kAttemptsMax) : 0;
  attempt_ = Attempt(0);  // no key is used twice
  neighbours_.clear();
  read_ = masked_ = false;
  if (round <= *unmasked_) {
    return Message(kFailed)
        .with("reason", "it has helped to unmask round " + std::to_string(*unmasked_) +
                            " and takes part in none up to it again")
        .with("unmasked", *unmasked_);
  }
  attempt_ = Attempt(round, before);
  letters_ = secure::make_pair();
  masks_ = secure::make_pair();
  seed_ = secure::random_key();
  Bytes keys(letters_.open.begin(), letters_.open.end());
  keys.insert(keys.end(), masks_.open.begin(), masks_.open.end());
  Message answer("keys");
  if (vouching_->sign) {
    answer.tensors["proof"] = tensor_of(vouching_->sign(keys_statement(attempt_, id_, keys)));
  }
  answer.tensors["keys"] = tensor_of(std::move(keys));
  return answer;
}

// All have the same neighbours and themselves: whoever was told otherwise cannot read the letters.
std::string MaskedClient::letters_purpose(const std::vector<Neighbour>& met) const {
  const std::string plain = purpose("letters", attempt_.round);
  if (plan_->secure.few > 0) return plain;
  Bytes list;
  ByteWriter writer(list);
  const auto add = [&](PeerId id, const Key& letters, const Key& masks) {
    writer.number(id);
    writer.raw(letters);
    writer.raw(masks);
  };
  bool self = false;
  for (const Neighbour& one : met) {
    if (!self && one.id > id_) {
      add(id_, letters_.open, masks_.open);
      self = true;
    }
    add(one.id, one.letters, one.masks);
  }
  if (!self) add(id_, letters_.open, masks_.open);
  return plain + ' ' + digest_of(list);
}

std::vector<MaskedClient::Neighbour> MaskedClient::meet(const Message& question) const {
  const std::vector<PeerId> ids = ids_in(bytes_in(question, "peers"));
  require_enough(ids.size(), neighbours_min(*plan_), "neighbours");
  const std::size_t most = plan_->secure.neighbours_of(static_cast<std::size_t>(plan_->per_round));
  if (ids.size() > most) {
    throw ProtocolError(std::to_string(ids.size()) + " neighbours, the plan says " +
                        std::to_string(most) + " at most");
  }
  ByteReader keys(bytes_in(question, "keys"));
  ByteReader proofs(vouching_->check ? bytes_in(question, "proofs") : ByteView());
  std::vector<Neighbour> met;
  for (const PeerId id : ids) {
    Neighbour one;
    one.id = id;
    const ByteView both = keys.raw(2 * sizeof(Key));
    ByteReader reader(both);
    one.letters = key_in(reader);
    one.masks = key_in(reader);
    if (id == id_ || id >= plan_->clients) throw ProtocolError(named(id) + " is no neighbour");
    if (vouching_->check) {
      const ByteView proof = proofs.raw(static_cast<std::size_t>(proofs.varint()));
      vouching_->check(id, keys_statement(attempt_, id, both), proof);
    }
    const auto same = [&](const Key& letters, const Key& masks) {
      return one.letters == letters || one.masks == masks;
    };
    if (same(letters_.open, masks_.open) || std::ranges::any_of(met, [&](const Neighbour& other) {
          return same(other.letters, other.masks);
        })) {
      throw ProtocolError("two clients have the same key");
    }
    met.push_back(one);
  }
  return met;
}

Message MaskedClient::write_letters(const Message& question) {
  const wire::Expect fields(question, "shares");
  if (fields.integer("round", 1, INT64_MAX) != attempt_.round) {
    throw Behind("it has no keys for this round");
  }
  if (!neighbours_.empty()) throw ProtocolError("it has written its letters already");
  if (fields.integer("self", 0, limits::kClientsMax) != id_) {
    throw ProtocolError("these are another client's neighbours");
  }
  std::vector<Neighbour> met = meet(question);
  const std::size_t count = met.size();
  // What the server may not choose: how many must agree before a mask falls.
  const auto threshold =
      static_cast<std::size_t>(fields.integer("threshold", 1, static_cast<std::int64_t>(count)));
  require_enough(threshold, plan_->secure.threshold_of(count), "as threshold");
  std::string letters_purpose = this->letters_purpose(met);
  const auto key_shares = secure::split(masks_.secret, threshold, count);
  const auto seed_shares = secure::split(seed_, threshold, count);
  Bytes letters;
  for (std::size_t n = 0; n < count; ++n) {
    const auto key = secure::agree(letters_.secret, letters_.open, met[n].letters, letters_purpose);
    if (!key || !secure::usable(met[n].masks)) {
      throw ProtocolError("a key of " + named(met[n].id) + " is of small order");
    }
    Bytes plain;
    secure::write_share(key_shares[n], plain);
    secure::write_share(seed_shares[n], plain);
    const Bytes sealed = secure::seal(*key, plain);
    letters.insert(letters.end(), sealed.begin(), sealed.end());
  }
  neighbours_ = std::move(met);
  threshold_ = threshold;
  letters_purpose_ = std::move(letters_purpose);
  return Message("shares").with("letters", tensor_of(std::move(letters)));
}

void MaskedClient::read_letters(const Message& task) {
  if (neighbours_.empty() ||
      wire::Expect(task, task.kind).integer("round", 1, INT64_MAX) != attempt_.round) {
    throw Behind("it has no masks for this round");
  }
  if (read_) throw ProtocolError("it has had the letters of this round already");
  const std::vector<PeerId> writers = ids_in(bytes_in(task, "letters_from"));
  ByteReader letters(bytes_in(task, "letters"));
  require_enough(writers.size(), left_min(*plan_, neighbours_.size()), "letters");
  read_ = true;
  for (const PeerId id : writers) {
    Neighbour& one = neighbour(id);
    one.wrote = true;
    const auto key = secure::agree(letters_.secret, letters_.open, one.letters, letters_purpose_);
    const auto plain = secure::open_sealed(*key, letters.raw(kLetterBytes));
    // Said, and gone on: the others hold shares enough, unless it has written so to most of them.
    if (!plain) continue;
    ByteReader shares(*plain);
    one.key = secure::read_share(shares);
    one.seed = secure::read_share(shares);
  }
}

Message MaskedClient::mask(const Message& update, Rng rng) {
  if (!read_ || masked_) throw ProtocolError("it has no masks left for this round");
  const MaskedForm form(*plan_, attempt_.round);
  std::vector<std::uint32_t> words = form.words(update, rng);
  secure::add_mask(seed_, true, form.bits(), words);
  std::vector<PeerId> forged;
  for (const Neighbour& one : neighbours_) {
    if (!one.wrote) continue;
    if (!one.seed) forged.push_back(one.id);
    const auto seed =
        secure::agree(masks_.secret, masks_.open, one.masks, purpose("mask", attempt_.round));
    secure::add_mask(*seed, one.id < id_, form.bits(), words);
  }
  masked_ = true;
  Message answer = Message("masked").with("words", tensor_of(form.pack(words)));
  if (!forged.empty()) answer.tensors["forged"] = tensor_of(bytes_of(forged));
  return answer;
}

Message MaskedClient::unmask(const Message& question) {
  if (wire::Expect(question, "unmask").integer("round", 1, INT64_MAX) != attempt_.round ||
      attempt_.round <= *unmasked_ || !masked_) {
    throw ProtocolError("it has nothing to unmask, or has done so already");
  }
  const std::vector<PeerId> alive = ids_in(bytes_in(question, "alive"));
  const std::vector<PeerId> lost = ids_in(bytes_in(question, "lost"));
  require_enough(alive.size(), std::max(threshold_, left_min(*plan_, neighbours_.size())),
                 "neighbours left");
  Bytes shares;
  for (const auto* ids : {&alive, &lost}) {
    for (const PeerId id : *ids) {
      const Neighbour& one = neighbour(id);
      if (!one.wrote) throw ProtocolError("no letter of " + named(id) + " has come");
      const auto& share = ids == &alive ? one.seed : one.key;
      secure::write_share(share.value_or(secure::kNoShare), shares);
    }
  }
  for (const Neighbour& one : neighbours_) {
    const bool there = std::ranges::binary_search(alive, one.id);
    const bool gone = std::ranges::binary_search(lost, one.id);
    if (there && gone) throw ProtocolError("both shares of " + named(one.id) + " are asked for");
    if (one.wrote && !there && !gone) {
      throw ProtocolError(named(one.id) + " has written, and is neither here nor lost");
    }
  }
  *unmasked_ = attempt_.round;
  return Message("unmask").with("shares", tensor_of(std::move(shares)));
}

}  // namespace fedctl::methods
