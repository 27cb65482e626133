#include "methods/detail/masked.hpp"
#include "methods/detail/masked_cohort.hpp"

namespace fedctl::methods {
namespace {

// The four stages; `out` gets what they come to, but for who dropped out.
Task<void> ask_stages(Endpoint& net, MaskedCohort& cohort, Attempt attempt,
                      const talk::Requests& tasks, double seconds_each, const Message& like,
                      MaskedRound& out) {
  std::size_t values = 0;
  for (const auto& [name, tensor] : like.tensors) values += tensor.f32().size();
  const std::size_t count = cohort.form().count(values);
  const std::size_t least = cohort.least();
  const auto until = [&] { return net.now() + seconds(seconds_each); };
  const auto enough = [&](std::size_t have, const char* stage) {
    if (have >= least) return true;
    out.why = std::to_string(have) + " of " + std::to_string(tasks.size()) + " clients left at \"" +
              stage + "\", " + std::to_string(least) + " needed";
    if (cohort.spent() > 0) {
      out.why += "; " + std::to_string(cohort.spent()) + " have helped to unmask this round before";
    }
    return false;
  };

  const SharedMessage hello = wire::share(cohort.hello());
  talk::Requests requests;
  for (const auto& [id, task] : tasks) requests.emplace(id, hello);
  const talk::Answers keys = co_await talk::ask(net, stage_exchange(attempt, 0), requests, until());
  requests = cohort.take_keys(keys);
  if (!enough(requests.size(), "keys")) {
    out.spent = requests.size() + cohort.spent() >= least;
    co_return;
  }

  const talk::Answers shares =
      co_await talk::ask(net, stage_exchange(attempt, 1), requests, until());
  requests = cohort.take_shares(shares, tasks);
  if (!enough(requests.size(), "shares")) co_return;

  out.answers = co_await talk::ask(net, stage_exchange(attempt, 2), requests, until());
  requests = cohort.take_words(out.answers, count);
  if (!enough(cohort.masked(), "masked")) co_return;
  out.why = cohort.why_in_vain();
  if (!out.why.empty()) co_return;

  out.spent = true;
  const talk::Answers last = co_await talk::ask(net, stage_exchange(attempt, 3), requests, until());
  const auto sums = cohort.take_unmask(last, requests);
  if (!sums) {
    out.why = "some secret has too few shares: " + std::to_string(last.replies.size()) + " of " +
              std::to_string(requests.size()) + " clients left at \"unmask\"";
    co_return;
  }
  try {
    out.mean = cohort.form().mean(*sums, cohort.masked(), like);
  } catch (const ProtocolError& error) {
    out.why = error.what();
  }
}

}  // namespace

Task<MaskedRound> ask_masked(Endpoint& net, const JobPlan& plan, Attempt attempt,
                             const talk::Requests& tasks, double seconds_each, const Message& like,
                             const Vouching& vouching) {
  MaskedRound out;
  MaskedCohort cohort(plan, attempt, vouching);
  co_await ask_stages(net, cohort, attempt, tasks, seconds_each, like, out);
  if (!out.mean) out.answers.replies.clear();
  out.answers.silent.clear();
  out.answers.rejected = std::move(cohort.rejected);
  out.answers.lost = std::move(cohort.lost);
  for (const auto& [id, reason] : out.answers.rejected) out.answers.lost.erase(id);
  co_return out;
}

}  // namespace fedctl::methods
