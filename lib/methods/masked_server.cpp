#include <algorithm>

#include "methods/detail/ids.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/masked.hpp"
#include "methods/detail/scalars.hpp"

namespace fedctl::methods {
namespace {

using secure::Key;

// The cohort of one round as the server knows it.
class Masking {
 public:
  Masking(const JobPlan& plan, std::int64_t round)
      : plan_(plan), round_(round), form_(plan, round) {}

  const MaskedForm& form() const { return form_; }

  // Stage 0 -> 1. Answers that are no keys are dropped.
  talk::Requests take_keys(talk::Answers& answers) {
    for (const auto& [id, reply] : answers.replies) {
      if (reply.kind != "keys") continue;
      const auto found = reply.tensors.find("keys");
      if (found == reply.tensors.end() || found->second.bytes.size() != 64) continue;
      Party party;
      std::copy_n(found->second.bytes.begin(), 32, party.letters.begin());
      std::copy_n(found->second.bytes.begin() + 32, 32, party.masks.begin());
      parties_.emplace(id, std::move(party));
    }
    // A random order of those that are here, on a ring.
    std::vector<PeerId> ids;
    for (const auto& [id, party] : parties_) ids.push_back(id);
    Rng rng = plan_.common.stream("ring", round_);
    rng.shuffle(std::span(ids));
    const auto around = secure::ring(ids.size(), plan_.secure.neighbours_of(ids.size()));
    talk::Requests requests;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      Party& party = parties_.at(ids[i]);
      for (const std::size_t j : around[i]) party.neighbours.push_back(ids[j]);
      std::ranges::sort(party.neighbours);
      Bytes keys;
      for (const PeerId id : party.neighbours) {
        const Party& other = parties_.at(id);
        keys.insert(keys.end(), other.letters.begin(), other.letters.end());
        keys.insert(keys.end(), other.masks.begin(), other.masks.end());
      }
      requests.emplace(
          ids[i], wire::share(Message("shares")
                                  .with("round", round_)
                                  .with("self", ids[i])
                                  .with("threshold", static_cast<std::int64_t>(threshold(party)))
                                  .with("peers", tensor_of(bytes_of(party.neighbours)))
                                  .with("keys", tensor_of(std::move(keys)))));
    }
    return requests;
  }

  // Stage 1 -> 2.
  talk::Requests take_shares(talk::Answers& answers, const talk::Requests& tasks) {
    for (const auto& [id, reply] : answers.replies) {
      Party& party = parties_.at(id);
      const auto found = reply.tensors.find("letters");
      if (reply.kind != "shares" || found == reply.tensors.end() ||
          found->second.bytes.size() != kLetterBytes * party.neighbours.size()) {
        continue;
      }
      party.letters_sent = found->second.bytes;
      party.wrote = true;
    }
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
        letters.insert(
            letters.end(), writer.letters_sent.begin() + at,
            writer.letters_sent.begin() + at + static_cast<std::ptrdiff_t>(kLetterBytes));
      }
      requests.emplace(id, wire::share(Message(*tasks.at(id))
                                           .with("letters_from", tensor_of(bytes_of(writers)))
                                           .with("letters", tensor_of(std::move(letters)))));
    }
    return requests;
  }

  // Stage 2 -> 3. `count`: words of an update. Answers that are none are moved to answers.rejected.
  talk::Requests take_words(talk::Answers& answers, std::size_t count) {
    sums_.assign(count, 0);
    const std::uint32_t keep = form_.bits() == 32 ? ~0U : (1U << form_.bits()) - 1;
    answers.replies.keep_if([&](PeerId id, const Message& reply) {
      try {
        require_work(reply);
        const std::vector<std::uint32_t> words = form_.unpack(bytes_in(reply, "words"), count);
        for (std::size_t i = 0; i < count; ++i) sums_[i] = (sums_[i] + words[i]) & keep;
        parties_.at(id).masked = true;
        return true;
      } catch (const Error& error) {
        answers.rejected.emplace(id, error.what());
        return false;
      }
    });
    talk::Requests requests;
    for (const auto& [id, party] : parties_) {
      if (!party.masked) continue;
      std::vector<PeerId> alive, lost;
      for (const PeerId other : party.neighbours) {
        if (!parties_.at(other).wrote) continue;
        (parties_.at(other).masked ? alive : lost).push_back(other);
      }
      requests.emplace(id, wire::share(Message("unmask")
                                           .with("round", round_)
                                           .with("alive", tensor_of(bytes_of(alive)))
                                           .with("lost", tensor_of(bytes_of(lost)))));
    }
    return requests;
  }

  // Behind stage 3: the sum without masks; nullopt if some secret has too few shares.
  std::optional<std::vector<std::uint32_t>> take_unmask(const talk::Answers& answers,
                                                        const talk::Requests& asked) {
    for (const auto& [id, reply] : answers.replies) {
      const auto found = reply.tensors.find("shares");
      if (reply.kind != "unmask" || found == reply.tensors.end()) continue;
      std::vector<PeerId> ids = ids_in(bytes_in(*asked.at(id), "alive"));
      const std::vector<PeerId> lost = ids_in(bytes_in(*asked.at(id), "lost"));
      ids.insert(ids.end(), lost.begin(), lost.end());
      if (found->second.bytes.size() != ids.size() * secure::kShareBytes) continue;
      ByteReader reader(found->second.bytes);
      for (const PeerId of : ids) {
        Party& party = parties_.at(of);
        party.held.push_back(
            {static_cast<std::uint32_t>(number(party, id)), secure::read_share(reader)});
      }
    }
    for (const auto& [id, party] : parties_) {
      if (!party.wrote) continue;
      const std::optional<Key> secret = secure::join(party.held, threshold(party));
      if (!secret) {
        // A mask that nobody has added, or nobody who is left, needs no removing.
        if (!party.masked && !seen_by_any(party)) continue;
        return std::nullopt;
      }
      if (party.masked) {
        secure::add_mask(*secret, false, form_.bits(), sums_);
      } else if (!remove_pairs(id, party, *secret)) {
        return std::nullopt;
      }
    }
    return sums_;
  }

 private:
  struct Party {
    Key letters{}, masks{};
    std::vector<PeerId> neighbours;  // ascending
    Bytes letters_sent;
    bool wrote = false, masked = false;
    std::vector<secure::Held> held;  // of its seed if it is masked, else of its mask key
  };

  std::size_t threshold(const Party& party) const {
    return plan_.secure.threshold_of(party.neighbours.size());
  }
  // Which of the party's shares its neighbour holds.
  static std::size_t number(const Party& party, PeerId holder) {
    return static_cast<std::size_t>(std::ranges::find(party.neighbours, holder) -
                                    party.neighbours.begin());
  }
  bool seen_by_any(const Party& party) const {
    return std::ranges::any_of(party.neighbours, [&](PeerId id) { return parties_.at(id).masked; });
  }
  // What the neighbours of one that was lost have added for it. False if it is not its key.
  bool remove_pairs(PeerId id, const Party& party, const Key& secret) {
    if (secure::open_of(secret) != party.masks) return false;
    for (const PeerId other : party.neighbours) {
      if (!parties_.at(other).masked) continue;
      const auto seed =
          secure::agree(secret, party.masks, parties_.at(other).masks, purpose("mask", round_));
      if (!seed) return false;
      secure::add_mask(*seed, id >= other, form_.bits(), sums_);
    }
    return true;
  }

  const JobPlan& plan_;
  std::int64_t round_;
  MaskedForm form_;
  std::map<PeerId, Party> parties_;
  std::vector<std::uint32_t> sums_;
};

}  // namespace

Task<MaskedRound> ask_masked(Endpoint& net, const JobPlan& plan, Attempt attempt,
                             const talk::Requests& tasks, double seconds_each,
                             const Message& like) {
  MaskedRound out;
  Masking masking(plan, attempt.round);
  std::size_t values = 0;
  for (const auto& [name, tensor] : like.tensors) values += tensor.f32().size();
  const std::size_t count = masking.form().count(values);
  const auto until = [&] { return net.now() + seconds(seconds_each); };
  const auto enough = [&](std::size_t have, const char* stage) {
    if (static_cast<std::int64_t>(have) >= plan.quorum_count()) return true;
    out.why = std::to_string(have) + " of " + std::to_string(tasks.size()) + " clients left at \"" +
              stage + "\", " + std::to_string(plan.quorum_count()) + " needed";
    return false;
  };

  const SharedMessage hello = wire::share(Message("keys").with("round", attempt.round));
  talk::Requests requests;
  for (const auto& [id, task] : tasks) requests.emplace(id, hello);
  talk::Answers keys = co_await talk::ask(net, stage_exchange(attempt, 0), requests, until());
  requests = masking.take_keys(keys);
  if (!enough(requests.size(), "keys")) co_return out;

  talk::Answers shares = co_await talk::ask(net, stage_exchange(attempt, 1), requests, until());
  requests = masking.take_shares(shares, tasks);
  if (!enough(requests.size(), "shares")) co_return out;

  out.answers = co_await talk::ask(net, stage_exchange(attempt, 2), requests, until());
  requests = masking.take_words(out.answers, count);
  if (!enough(requests.size(), "masked")) co_return out;

  const talk::Answers last = co_await talk::ask(net, stage_exchange(attempt, 3), requests, until());
  const auto sums = masking.take_unmask(last, requests);
  if (!sums) {
    out.why = "some secret has too few shares: " + std::to_string(last.replies.size()) + " of " +
              std::to_string(requests.size()) + " clients left at \"unmask\"";
    co_return out;
  }
  out.mean = masking.form().mean(*sums, requests.size(), like);
  co_return out;
}

}  // namespace fedctl::methods
