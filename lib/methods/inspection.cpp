#include "methods/detail/inspection.hpp"

#include <array>
#include <cmath>
#include <cstdio>

#include "base/digest.hpp"
#include "base/floats.hpp"
#include "math/vectors.hpp"

namespace fedctl::methods {
namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int64_t>::max();

std::string short_text(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", value);
  return text.data();
}

}  // namespace

void require_work(const Message& answer) {
  if (answer.kind == kFailed) throw ProtocolError(wire::Expect(answer, kFailed).words("reason"));
}

void require_values(const Message& message) {
  for (const auto& [name, tensor] : message.tensors) {
    if (tensor.dtype != DType::f32) continue;
    const auto bad = first_beyond(limits::kUpdateValueMax, tensor.f32());
    if (!bad) continue;
    throw ProtocolError('"' + message.kind + "\", tensor \"" + name + "\": value " +
                        std::to_string(*bad) + " is " + short_text(tensor.f32()[*bad]) +
                        ", at most 1e15 can be added up");
  }
}

void require_norm(double norm, const JobPlan& plan, const std::string& what) {
  const bool own = plan.norm_max <= limits::kUpdateValueMax;
  const double most = own ? plan.norm_max : limits::kUpdateValueMax;
  if (norm <= most) return;
  throw ProtocolError("norm" + (what.empty() ? "" : " of the " + what) + ' ' + short_text(norm) +
                      ", " + (own ? "server.max_update_norm is " : "at most ") + short_text(most));
}

void require_norm(const Message& answer, const JobPlan& plan) {
  require_values(answer);
  if (plan.norm_max == std::numeric_limits<double>::infinity()) return;
  double squares = 0;
  for (const auto& [name, tensor] : answer.tensors) {
    if (tensor.dtype != DType::f32) continue;
    squares += math::dot(tensor.f32(), tensor.f32());
  }
  require_norm(std::sqrt(squares), plan);
}

std::int64_t JobPlan::examples_max_of(PeerId client) const {
  const auto number = static_cast<std::size_t>(client);
  return number < dealt.size() ? std::min(dealt[number], examples_max) : examples_max;
}

std::int64_t require_report(const Message& update, PeerId from, const JobPlan& plan) {
  const wire::Expect fields(update, "update");
  const std::int64_t examples = fields.integer("examples", 1, kCountMax);
  if (const std::int64_t most = plan.examples_max_of(from); examples > most) {
    throw ProtocolError("\"update\", scalar \"examples\": " + std::to_string(examples) +
                        ", at most " + std::to_string(most) + " (server.max_examples)");
  }
  fields.integer("steps", 0, kCountMax);
  fields.real("loss");
  return examples;
}

double require_path(const Message& update, PeerId from, const JobPlan& plan) {
  const learn::TrainOptions& train = plan.train;
  const auto epochs = static_cast<double>(train.epochs);
  const auto examples = static_cast<double>(plan.examples_max_of(from));
  const double batches = std::ceil(examples / static_cast<double>(train.batch_size));
  const double steps = train.steps > 0 ? static_cast<double>(train.steps) : epochs * batches;
  // No schedule exceeds the rate; a thousandth for the sum's rounding.
  const double most = 1.001 * learn::learning_rate(train.optimizer) * steps;
  const double path = wire::Expect(update, "update").real("path");
  if (path > 0 && path <= most) return path;
  throw ProtocolError("\"update\", scalar \"path\": " + short_text(path) +
                      ", expected above 0 and at most " + std::to_string(most));
}

void note_digest(PeerId from, const Message& update, const JobPlan& plan, RoundReport& report) {
  if (!plan.digests) return;
  Digest digest;
  for (const auto& [name, tensor] : update.tensors) digest.add(tensor.bytes);
  report.digests.emplace(from, digest.hex());
}

void lack(std::int64_t deadlines, const RoundReport& report, const std::string& why,
          const std::string& hint, const ServerContext& ctx) {
  // Those that earlier processes have waited for pass by without an end.
  const bool ends = deadlines >= ctx.plan.attempts_max * (1 + ctx.endings);
  ctx.sink.lacking({report, why, deadlines, ends});
  if (ends) throw QuorumError(why, hint + "; --resume goes on");
}

std::int64_t add_report(RoundServer::Merged& merged, const Message& update) {
  const wire::Expect fields(update, "update");
  const std::int64_t examples = fields.integer("examples", 1, kCountMax);
  merged.examples += examples;
  merged.train_loss += static_cast<double>(examples) * fields.real("loss");
  return examples;
}

void finish(RoundServer::Merged& merged) {
  merged.train_loss /= static_cast<double>(merged.examples);
}

}  // namespace fedctl::methods
