// The cohort of one try at a masked round, as the server knows it: who has said what at which
// stage, and whose fault it is that there is no sum.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "methods/detail/masked.hpp"

namespace fedctl::methods {

class MaskedCohort {
 public:
  // What they refer to outlives this.
  MaskedCohort(const JobPlan& plan, Attempt attempt, const Vouching& vouching)
      : plan_(plan), attempt_(attempt), vouching_(vouching), form_(plan, attempt.round) {}

  const MaskedForm& form() const { return form_; }
  // Fewest clients that it takes.
  std::size_t least() const { return static_cast<std::size_t>(plan_.quorum_count()); }
  // The first question, the same for all.
  Message hello() const;
  // What the answers of a stage come to: the questions of the next one, for those that are to go
  // on.
  talk::Requests take_keys(const talk::Answers& answers);
  talk::Requests take_shares(const talk::Answers& answers, const talk::Requests& tasks);
  // `count`: words of an update. Replies that are none are erased.
  talk::Requests take_words(talk::Answers& answers, std::size_t count);
  // Why the sum could not be found although all that are asked now should answer; "" if it could.
  // Called before anybody is asked.
  std::string why_in_vain();
  // Behind the last stage: the sum without masks; nullopt if some secret has too few shares.
  std::optional<std::vector<std::uint32_t>> take_unmask(const talk::Answers& answers,
                                                        const talk::Requests& asked);

  std::size_t masked() const;  // clients whose words are in the sum
  // Clients that say that they have answered the last stage of this round already.
  std::size_t spent() const { return spent_; }
  // Who has dropped out, and why: by its own fault, or not.
  std::map<PeerId, std::string> rejected, lost;

 private:
  struct Party {
    secure::Key letters{}, masks{};
    Bytes proof;
    std::vector<PeerId> neighbours;  // ascending
    Bytes letters_sent;
    std::size_t accusers = 0;  // neighbours that cannot open its letters
    bool wrote = false, masked = false;
    std::vector<PeerId> forged;       // whose letters it cannot open
    std::vector<PeerId> alive, gone;  // what it is asked for in the end; neither: it is not asked
    std::vector<secure::Held> held;   // of its seed if it is masked, else of its mask key
  };

  // Those that have something to say at a stage.
  void hear(const talk::Answers& answers, const std::string& kind,
            const std::function<void(PeerId, const Message&)>& take);
  void reject_twins();
  std::size_t threshold(const Party& party) const {
    return plan_.secure.threshold_of(party.neighbours.size());
  }
  // Which of the party's shares its neighbour holds.
  static std::size_t number(const Party& party, PeerId holder);
  // Whether a mask of this one is in the sum.
  bool needed(const Party& party) const;
  // It has given bad shares to so many that the others are too few.
  void blame(PeerId id, const Party& party, std::size_t bad);
  // What the neighbours of one that was lost have added for it. False if it is not its key.
  bool remove_pairs(PeerId id, const Party& party, const secure::Key& secret);
  bool remove(PeerId id, const Party& party);

  const JobPlan& plan_;
  Attempt attempt_;
  const Vouching& vouching_;
  MaskedForm form_;
  std::map<PeerId, Party> parties_;
  std::vector<std::uint32_t> sums_;
  std::size_t spent_ = 0;
};

}  // namespace fedctl::methods
