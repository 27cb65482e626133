#include <algorithm>

#include "base/assert.hpp"
#include "math/vectors.hpp"
#include "methods/detail/holdout.hpp"
#include "methods/detail/masked.hpp"

namespace fedctl::methods {
namespace {

bool is_finite(const Message& message) {
  return std::ranges::all_of(message.tensors, [](const auto& entry) {
    const Tensor& tensor = entry.second;
    return tensor.dtype != DType::f32 || math::all_finite(tensor.f32());
  });
}

Message failed(const std::string& reason) { return Message(kFailed).with("reason", reason); }

// What `answer` returns, or why there is no answer.
template <class Answer>
std::optional<Message> answer_or_refuse(Answer answer) {
  try {
    return answer();
  } catch (const Behind& error) {
    return Message(kBehind).with("reason", error.what());
  } catch (const Error& error) {
    return failed(error.what());
  }
}

// The answer to a stage of secure aggregation, or why the task behind one is not worked on;
// nullopt: it is to be.
std::optional<Message> answer_stage(MaskedClient& masking, const Message& question) {
  return answer_or_refuse([&] {
    std::optional<Message> answer = masking.answer(question);
    if (!answer) masking.read_letters(question);
    return answer;
  });
}

Message masked(MaskedClient& masking, const Message& task, const Message& update,
               ClientContext& ctx) {
  return *answer_or_refuse([&] {
    const std::int64_t round = wire::Expect(task, task.kind).integer("round", 1, kRoundsMax);
    return std::optional(masking.mask(update, ctx.rng.stream("masked", round)));
  });
}

}  // namespace

RoundClient::Work RoundClient::work(const Message&, ClientContext&) {
  FEDCTL_ASSERT(false);
  return {Message(kFailed)};
}

Task<std::optional<RoundClient::Work>> RoundClient::work_with(Endpoint&, const Message& task,
                                                              ClientContext& ctx) {
  co_return work(task, ctx);
}

Task<void> RoundClient::heard(Endpoint&, talk::Envelope, ClientContext&) { co_return; }

std::vector<float> RoundClient::global(const Message& task, ClientContext& ctx) {
  const auto found = task.tensors.find("weights");
  if (found == task.tensors.end() || found->second.dtype != DType::f32 ||
      found->second.f32().size() != ctx.plan.layout.size()) {
    return {};
  }
  const auto weights = found->second.f32();
  return {weights.begin(), weights.end()};
}

std::optional<learn::Scores> RoundClient::score(const Message& task, ClientContext& ctx) {
  if (!ctx.plan.evaluation.on || !task.scalars.contains("round")) return std::nullopt;
  const std::int64_t round = wire::Expect(task, task.kind).integer("round", 1, kRoundsMax);
  if (!ctx.plan.evaluation.due(round, ctx.plan.rounds) || ctx.holdout.empty()) return std::nullopt;
  const std::vector<float> weights = global(task, ctx);
  return weights.empty() ? std::nullopt : score_holdout(weights, ctx);
}

Task<void> RoundClient::run(Endpoint& net, ClientContext& ctx) {
  MaskedClient masking(ctx.plan, ctx.id, ctx.vouching, unmasked_);
  while (true) {
    std::optional<talk::Envelope> envelope = std::exchange(later_, std::nullopt);
    if (!envelope) envelope = co_await net.receive(kForever);
    if (!envelope || std::holds_alternative<talk::Closed>(envelope->event)) co_return;
    if (envelope->from != talk::kServer) {
      co_await heard(net, std::move(*envelope), ctx);
      continue;
    }
    if (const auto* rejected = std::get_if<talk::Rejected>(&envelope->event)) {
      throw ProtocolError("the server's message cannot be read: " + rejected->reason);
    }
    if (const auto* task = std::get_if<Message>(&envelope->event)) {
      if (ctx.plan.secure.on) {
        std::optional<Message> stage = answer_stage(masking, *task);
        if (stage) {
          co_await talk::reply(net, *envelope, std::move(*stage));
          continue;
        }
      }
      if (task->scalars.contains(talk::kUnused)) {
        unused(static_cast<ExchangeId>(
            wire::Expect(*task, task->kind).integer(talk::kUnused, 1, INT64_MAX)));
      }
      const auto scores = score(*task, ctx);
      std::optional<Work> worked = co_await work_with(net, *task, ctx);
      if (!worked) co_return;
      Work& done = *worked;
      net.spend(seconds(static_cast<double>(done.steps) * ctx.plan.step_ms_of(ctx.id) * 1e-3));
      // Said plainly, since no codec can carry it; the round goes on without this client.
      if (!is_finite(done.answer)) {
        done.answer =
            failed("training diverged: the update is not finite; lower the learning rate");
      }
      if (scores && done.answer.kind != kFailed) add_holdout(done.answer, *scores);
      if (ctx.plan.secure.on && done.answer.kind != kFailed) {
        done.answer = masked(masking, *task, done.answer, ctx);
      }
      const ExchangeId exchange = envelope->exchange;
      if (!follows() || done.answer.kind == kFailed) {
        co_await talk::reply(net, *envelope, std::move(done.answer));
      } else {
        talk::Endpoint::Seen seen = [this, exchange](const Message& as_read) {
          answered(exchange, as_read);
        };
        co_await net.send_seen(envelope->from, exchange, wire::share(std::move(done.answer)),
                               std::move(seen));
      }
      const auto steps = static_cast<double>(ahead(ctx));
      net.spend(seconds(steps * ctx.plan.step_ms_of(ctx.id) * 1e-3));
    }
  }
}

}  // namespace fedctl::methods
