// The journal's `round` line (docs/journal.md).
#include "base/digest.hpp"
#include "run/keeper.hpp"

namespace fedctl::run {
namespace {

journal::Object five_parts(const talk::Traffic& traffic) {
  journal::Object object;
  object.set("payload", traffic.payload)
      .set("framing", traffic.framing)
      .set("tls", traffic.tls)
      .set("resent", traffic.resent)
      .set("control", traffic.control);
  return object;
}

}  // namespace

journal::Event Keeper::round_event(const methods::RoundReport& report,
                                   const std::optional<Quality>& quality,
                                   const talk::Crossing& bytes, double round_ms) {
  journal::Event event("round");
  const data::Task task = job_.data.train->info().task;
  describe(quality, task, event);
  if (job_.plan.evaluation.due(report.round, job_.plan.rounds) && report.round > 0) {
    describe(report.client_scores, task, event);
  }
  if (report.round > 0) {
    event.set("train_loss", report.train_loss);
  } else {
    event.set("train_loss", nullptr);
  }
  event.set("clients", report.clients)
      .set("replied", report.replied)
      .set("lost", report.lost)
      .set("rejected", report.rejected)
      .set("examples", report.examples)
      .set("bytes_up", bytes.up.sum())
      .set("bytes_down", bytes.down.sum());
  journal::Object both;
  both.set("up", five_parts(bytes.up)).set("down", five_parts(bytes.down));
  if (report.peers) {
    both.set("peers", five_parts(*report.peers));
    event.set("bytes_peers", report.peers->sum());
  }
  event.set("bytes", both)
      .set("bytes_up_total", bytes_up_total_)
      .set("bytes_down_total", bytes_down_total_)
      .set("update_norm", report.update_norm)
      .set("digest", digest_of(as_bytes_of(std::span<const float>(weights_))))
      .set("round_ms", round_ms)
      .set("train_ms", report.train_ms)
      .set("wait_ms", report.wait_ms)
      .set("aggregate_ms", report.aggregate_ms)
      .set("evaluate_ms", quality ? quality->evaluate_ms : 0.0)
      .set("deadline_ms", report.deadline_ms);
  if (report.staleness) event.set("staleness", *report.staleness);
  std::string answers;
  for (const auto& [peer, version] : report.order) {
    answers += (answers.empty() ? "" : " ") + std::to_string(peer) + '@' + std::to_string(version);
  }
  if (!answers.empty()) event.set("answers", answers);
  return event;
}

}  // namespace fedctl::run
