#include "methods/detail/masked_cohort.hpp"

#include <algorithm>

#include "methods/detail/ids.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/scalars.hpp"

namespace fedctl::methods {

using secure::Key;

namespace {

constexpr std::size_t kKeysBytes = 2 * sizeof(Key);

ByteView exactly(const Message& message, const std::string& name, std::size_t bytes) {
  const ByteView found = bytes_in(message, name);
  if (found.size() == bytes) return found;
  throw ProtocolError(std::to_string(found.size()) + " bytes of " + name + ", expected " +
                      std::to_string(bytes));
}

}  // namespace

Message MaskedCohort::hello() const {
  Message hello = Message("keys").with("round", attempt_.round);
  if (attempt_.before > 0) hello.scalars["attempt"] = attempt_.before;
  return hello;
}

void MaskedCohort::hear(const talk::Answers& answers, const std::string& kind,
                        const std::function<void(PeerId, const Message&)>& take) {
  for (const auto& [id, reason] : answers.rejected) rejected.emplace(id, reason);
  for (const auto& [id, reason] : answers.lost) lost.emplace(id, reason);
  for (const PeerId id : answers.silent) lost.emplace(id, "did not answer in time");
  for (const auto& [id, reply] : answers.replies) {
    // Neither is a fault of this client's.
    if (reply.kind == kBehind) {
      lost.emplace(id, "came back as another process in the middle of the round");
      continue;
    }
    if (reply.kind == kFailed && reply.scalars.contains("unmasked")) {
      lost.emplace(id, "has helped to unmask this round before");
      ++spent_;
      continue;
    }
    try {
      require_work(reply);
      if (reply.kind != kind) {
        throw ProtocolError("\"" + reply.kind + "\" instead of \"" + kind + '"');
      }
      take(id, reply);
    } catch (const Error& error) {
      rejected.emplace(id, error.what());
    }
  }
}

// A key of somebody else's is known to nobody beforehand: two that have the same have agreed on it.
void MaskedCohort::reject_twins() {
  std::map<Key, std::vector<PeerId>> owners;
  for (const auto& [id, party] : parties_) {
    owners[party.letters].push_back(id);
    owners[party.masks].push_back(id);
  }
  for (const auto& [key, ids] : owners) {
    if (ids.size() == 1) continue;
    for (const PeerId id : ids) {
      if (parties_.erase(id) == 1) rejected.emplace(id, "one of its keys is no key of its own");
    }
  }
}

talk::Requests MaskedCohort::take_keys(const talk::Answers& answers) {
  hear(answers, "keys", [&](PeerId id, const Message& reply) {
    const ByteView both = exactly(reply, "keys", kKeysBytes);
    Party party;
    std::copy_n(both.begin(), sizeof(Key), party.letters.begin());
    std::copy_n(both.begin() + sizeof(Key), sizeof(Key), party.masks.begin());
    // Here, and not at its neighbours, who would refuse to write to it.
    if (!secure::usable(party.letters) || !secure::usable(party.masks)) {
      throw ProtocolError("one of its keys is of small order");
    }
    if (vouching_.check) {
      const ByteView proof = bytes_in(reply, "proof");
      vouching_.check(id, keys_statement(attempt_, id, both), proof);
      party.proof.assign(proof.begin(), proof.end());
    }
    parties_.emplace(id, std::move(party));
  });
  reject_twins();
  // A random order of those that are here, on a ring.
  std::vector<PeerId> ids;
  for (const auto& [id, party] : parties_) ids.push_back(id);
  Rng rng = plan_.common.stream("ring", attempt_.round);
  rng.shuffle(std::span(ids));
  while (std::ssize(ids) > plan_.per_round) {  // the sum has no room for more
    lost.emplace(ids.back(), "was asked in case that others do not answer");
    parties_.erase(ids.back());
    ids.pop_back();
  }
  const auto around = secure::ring(ids.size(), plan_.secure.neighbours_of(ids.size()));
  talk::Requests requests;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Party& party = parties_.at(ids[i]);
    for (const std::size_t j : around[i]) party.neighbours.push_back(ids[j]);
    std::ranges::sort(party.neighbours);
    Bytes keys, proofs;
    ByteWriter key_writer(keys), proof_writer(proofs);
    for (const PeerId id : party.neighbours) {
      const Party& other = parties_.at(id);
      key_writer.raw(other.letters);
      key_writer.raw(other.masks);
      proof_writer.varint(other.proof.size());
      proof_writer.raw(other.proof);
    }
    Message question = Message("shares")
                           .with("round", attempt_.round)
                           .with("self", ids[i])
                           .with("threshold", static_cast<std::int64_t>(threshold(party)))
                           .with("peers", tensor_of(bytes_of(party.neighbours)))
                           .with("keys", tensor_of(std::move(keys)));
    if (vouching_.check) question.tensors["proofs"] = tensor_of(std::move(proofs));
    requests.emplace(ids[i], wire::share(std::move(question)));
  }
  return requests;
}

talk::Requests MaskedCohort::take_shares(const talk::Answers& answers,
                                         const talk::Requests& tasks) {
  hear(answers, "shares", [&](PeerId id, const Message& reply) {
    Party& party = parties_.at(id);
    const ByteView letters = exactly(reply, "letters", kLetterBytes * party.neighbours.size());
    party.letters_sent.assign(letters.begin(), letters.end());
    party.wrote = true;
  });
  talk::Requests requests;
  for (const auto& [id, party] : parties_) {
    if (!party.wrote) continue;
    std::vector<PeerId> writers;
    Bytes letters;
    for (const PeerId other : party.neighbours) {
      const Party& writer = parties_.at(other);
      if (!writer.wrote) continue;
      const auto at = static_cast<std::ptrdiff_t>(number(writer, id) * kLetterBytes);
      writers.push_back(other);
      letters.insert(letters.end(), writer.letters_sent.begin() + at,
                     writer.letters_sent.begin() + at + static_cast<std::ptrdiff_t>(kLetterBytes));
    }
    if (writers.size() < left_min(plan_, party.neighbours.size())) {
      lost.emplace(id, "too few of its neighbours are left");
      continue;
    }
    requests.emplace(id, wire::share(Message(*tasks.at(id))
                                         .with("letters_from", tensor_of(bytes_of(writers)))
                                         .with("letters", tensor_of(std::move(letters)))));
  }
  return requests;
}

talk::Requests MaskedCohort::take_words(talk::Answers& answers, std::size_t count) {
  sums_.assign(count, 0);
  const std::uint32_t keep = form_.bits() == 32 ? ~0U : (1U << form_.bits()) - 1;
  hear(answers, "masked", [&](PeerId id, const Message& reply) {
    Party& party = parties_.at(id);
    std::vector<PeerId> forged;
    if (reply.tensors.contains("forged")) forged = ids_in(bytes_in(reply, "forged"));
    for (const PeerId of : forged) {
      if (!std::ranges::binary_search(party.neighbours, of) || !parties_.at(of).wrote) {
        throw ProtocolError("client " + std::to_string(of) + " has written it no letter");
      }
    }
    const std::vector<std::uint32_t> words = form_.unpack(bytes_in(reply, "words"), count);
    for (std::size_t i = 0; i < count; ++i) sums_[i] = (sums_[i] + words[i]) & keep;
    for (const PeerId of : forged) ++parties_.at(of).accusers;
    party.forged = std::move(forged);
    party.masked = true;
  });
  answers.replies.keep_if([&](PeerId id, const Message&) { return parties_.at(id).masked; });
  talk::Requests requests;
  for (auto& [id, party] : parties_) {
    if (!party.masked) continue;
    std::vector<PeerId> alive, gone;
    for (const PeerId other : party.neighbours) {
      if (!parties_.at(other).wrote) continue;
      (parties_.at(other).masked ? alive : gone).push_back(other);
    }
    if (alive.size() < left_min(plan_, party.neighbours.size())) continue;  // it would refuse
    party.alive = alive;
    party.gone = gone;
    requests.emplace(id, wire::share(Message("unmask")
                                         .with("round", attempt_.round)
                                         .with("alive", tensor_of(bytes_of(alive)))
                                         .with("lost", tensor_of(bytes_of(gone)))));
  }
  return requests;
}

std::string MaskedCohort::why_in_vain() {
  std::string why;
  for (const auto& [id, party] : parties_) {
    if (!needed(party)) continue;
    blame(id, party, party.accusers);
    const auto holders = std::ranges::count_if(party.neighbours, [&](PeerId holder) {
      const Party& other = parties_.at(holder);
      return !other.alive.empty() && !std::ranges::binary_search(other.forged, id);
    });
    if (static_cast<std::size_t>(holders) >= threshold(party)) continue;
    why = std::to_string(holders) + " clients hold a share of client " + std::to_string(id) +
          "'s secrets, " + std::to_string(threshold(party)) + " needed";
  }
  return why;
}

std::optional<std::vector<std::uint32_t>> MaskedCohort::take_unmask(const talk::Answers& answers,
                                                                    const talk::Requests& asked) {
  std::map<PeerId, std::size_t> none;  // holders that say that they have no share
  for (const auto& [id, reply] : answers.replies) {
    const auto found = reply.tensors.find("shares");
    if (reply.kind != "unmask" || found == reply.tensors.end() || !asked.contains(id)) continue;
    std::vector<PeerId> ids = parties_.at(id).alive;
    ids.insert(ids.end(), parties_.at(id).gone.begin(), parties_.at(id).gone.end());
    if (found->second.bytes.size() != ids.size() * secure::kShareBytes) continue;
    ByteReader reader(found->second.bytes);
    for (const PeerId of : ids) {
      Party& party = parties_.at(of);
      const secure::Share share = secure::read_share(reader);
      if (secure::is_share(share)) {
        party.held.push_back({static_cast<std::uint32_t>(number(party, id)), share});
      } else {
        ++none[of];
      }
    }
  }
  bool all = true;
  for (const auto& [id, party] : parties_) {
    if (!needed(party) || remove(id, party)) continue;
    all = false;
    // Of those that agree on no key, fewer than the threshold can be right.
    const std::size_t have = party.held.size(), wanted = threshold(party);
    blame(id, party, none[id] + (have < wanted ? 0 : have - wanted + 1));
  }
  if (!all) return std::nullopt;
  return sums_;
}

std::size_t MaskedCohort::masked() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(parties_, [](const auto& entry) { return entry.second.masked; }));
}

std::size_t MaskedCohort::number(const Party& party, PeerId holder) {
  return static_cast<std::size_t>(std::ranges::lower_bound(party.neighbours, holder) -
                                  party.neighbours.begin());
}

bool MaskedCohort::needed(const Party& party) const {
  if (party.masked) return true;
  return party.wrote &&
         std::ranges::any_of(party.neighbours, [&](PeerId id) { return parties_.at(id).masked; });
}

void MaskedCohort::blame(PeerId id, const Party& party, std::size_t bad) {
  const std::size_t neighbours = party.neighbours.size();
  if (bad <= neighbours - threshold(party)) return;
  rejected.emplace(id, "its letters are of no use to " + std::to_string(bad) + " of its " +
                           std::to_string(neighbours) + " neighbours");
}

bool MaskedCohort::remove(PeerId id, const Party& party) {
  const std::optional<Key> secret = secure::join(party.held, threshold(party));
  if (!secret) return false;
  if (!party.masked) return remove_pairs(id, party, *secret);
  secure::add_mask(*secret, false, form_.bits(), sums_);
  return true;
}

bool MaskedCohort::remove_pairs(PeerId id, const Party& party, const Key& secret) {
  if (secure::open_of(secret) != party.masks) {
    rejected.emplace(id, "its letters hold another key than its own");
    return false;
  }
  for (const PeerId other : party.neighbours) {
    if (!parties_.at(other).masked) continue;
    const auto seed = secure::agree(secret, party.masks, parties_.at(other).masks,
                                    purpose("mask", attempt_.round));
    if (!seed) return false;
    secure::add_mask(*seed, id >= other, form_.bits(), sums_);
  }
  return true;
}

}  // namespace fedctl::methods
