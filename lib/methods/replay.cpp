#include "methods/detail/replay.hpp"

#include <algorithm>
#include <deque>

#include "codec/detail/positions.hpp"
#include "methods/detail/inspection.hpp"
#include "methods/detail/states.hpp"

namespace fedctl::methods {
namespace {

// A mask as bytes: its size in four, then the positions.
Bytes mask_bytes(std::span<const std::size_t> positions, std::size_t size) {
  Bytes bytes;
  ByteWriter writer(bytes);
  writer.number(static_cast<std::uint32_t>(positions.size()));
  const codec::detail::Chunk all{size, positions.size()};
  codec::detail::write_positions(positions, {&all, 1}, bytes);
  return bytes;
}
std::vector<std::size_t> mask_in(ByteView bytes, std::size_t size) {
  ByteReader reader(bytes);
  const std::size_t count = reader.number<std::uint32_t>();
  if (count == 0 || count > size) {
    throw WireError("a mask of " + std::to_string(count) + " of " + std::to_string(size));
  }
  ByteView rest = reader.raw(reader.left());
  const codec::detail::Chunk all{size, count};
  std::vector<std::size_t> positions = codec::detail::read_positions({&all, 1}, rest);
  if (!rest.empty()) throw WireError("bytes behind a mask");
  return positions;
}

// The directions' mask in a message, if they have one; and back, if the message has one.
void put_mask(const Directions& directions, Message& message) {
  if (!directions.masked()) return;
  message.tensors.emplace("mask", tensor_of(mask_bytes(directions.positions(), directions.size())));
}
void take_mask(const Message& message, Directions& directions) {
  if (!message.tensors.contains("mask")) return;
  directions.mask(mask_in(bytes_in(message, "mask"), directions.size()));
}

// The weights that the method moves, one behind the other.
std::vector<float> moving(const Directions& directions, std::span<const float> weights) {
  if (!directions.masked()) return {weights.begin(), weights.end()};
  std::vector<float> values;
  for (const std::size_t position : directions.positions()) values.push_back(weights[position]);
  return values;
}
std::size_t moving_count(const Directions& directions) {
  return directions.masked() ? directions.positions().size() : directions.size();
}
void set_moving(const Directions& directions, std::span<const float> values,
                std::span<float> weights) {
  if (!directions.masked()) {
    std::ranges::copy(values, weights.begin());
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) weights[directions.positions()[i]] = values[i];
}

class ReplayServer final : public RoundServer {
 public:
  explicit ReplayServer(std::unique_ptr<Rule> rule) : rule_(std::move(rule)) {
    replica_.curvature = rule_->first_curvature();
  }

  SharedMessage instruct(std::int64_t round, PeerId to, ServerContext& ctx) override {
    if (rule_->has_mask() && !rule_->directions.masked()) {
      rule_->directions.mask(rule_->choose_mask(ctx));
    }
    if (round != task_round_) tasks_.clear();
    task_round_ = round;
    const auto found = known_.find(to);
    const bool first = rule_->has_mask() && found == known_.end();
    const std::int64_t known = found == known_.end() ? 0 : found->second;
    const std::int64_t steps = rule_->steps_of(to);
    SharedMessage& task = tasks_[{first ? -1 : known, steps}];
    if (!task) task = wire::share(make_task(round, known, steps, first, ctx));
    return task;
  }

  void inspect(PeerId from, const Message& reply, const ServerContext& ctx) override {
    if (reply.kind == kBehind) {
      known_.erase(from);
      throw ProtocolError("it has lost its weights; it gets what it needs next time");
    }
    require_report(reply, from, ctx.plan);
    require_norm(rule_->norm(bytes_in(reply, "measured"), rule_->steps_of(from)), ctx.plan,
                 "numbers");
  }

  Merged merge(std::int64_t round, const Replies& replies, ServerContext& ctx) override {
    replica_.weights = ctx.weights;
    std::deque<Bytes> measured;  // a reply is there until the next one
    Answers answers;
    Merged merged;
    for (const auto& [peer, reply] : replies) {
      add_report(merged, reply);
      const ByteView numbers = bytes_in(reply, "measured");
      answers.emplace(peer, measured.emplace_back(numbers.begin(), numbers.end()));
      known_[peer] = round - 1;
    }
    finish(merged);
    log_.push_back(rule_->entry(replica_, answers, ctx.aggregator));
    rule_->observe(replica_, answers, ctx);
    rule_->advance(replica_, log_.back());
    return merged;
  }

  Message save() const override {
    Message state("state");
    Bytes log;
    std::vector<std::int64_t> lengths;
    for (const Bytes& entry : log_) {
      log.insert(log.end(), entry.begin(), entry.end());
      lengths.push_back(static_cast<std::int64_t>(entry.size()));
    }
    state.tensors.emplace("log", tensor_of(std::move(log)));
    state.tensors.emplace("lengths", Tensor::of(lengths, {}));
    state.tensors.emplace("known", by_peer(known_));
    state.tensors.emplace("curvature", Tensor::of(replica_.curvature, {}));
    put_mask(rule_->directions, state);
    rule_->save(state);
    return state;
  }
  void load(const Message& state) override {
    const ByteView log = bytes_in(state, "log");
    log_.clear();
    std::size_t at = 0;
    for (const std::int64_t length : integers_in(state, "lengths")) {
      const auto bytes = static_cast<std::size_t>(length);
      if (length < 0 || bytes > log.size() - at) throw WireError("\"state\": the log ends early");
      const ByteView entry = log.subspan(at, bytes);
      log_.emplace_back(entry.begin(), entry.end());
      at += bytes;
    }
    replica_.round = static_cast<std::int64_t>(log_.size());
    replica_.curvature = floats_in(state, "curvature", replica_.curvature.size());
    known_ = by_peer_in(state, "known");
    take_mask(state, rule_->directions);
    rule_->load(state);
  }

 private:
  Message make_task(std::int64_t round, std::int64_t known, std::int64_t steps, bool first,
                    ServerContext& ctx) const {
    Message task = Message("train").with("round", round);
    if (steps != rule_->plan.train.steps) task.scalars.emplace("steps", steps);
    if (first) put_mask(rule_->directions, task);
    Bytes log;
    for (auto r = static_cast<std::size_t>(known); r < log_.size(); ++r) {
      log.insert(log.end(), log_[r].begin(), log_[r].end());
    }
    if (log.size() <= 4 * (moving_count(rule_->directions) + replica_.curvature.size())) {
      task.scalars.emplace("from", known + 1);
      task.tensors.emplace("log", tensor_of(std::move(log)));
    } else {
      task.tensors.emplace("weights", Tensor::of(moving(rule_->directions, ctx.weights), {}));
      task.tensors.emplace("curvature", Tensor::of(replica_.curvature, {}));
    }
    return task;
  }

  std::unique_ptr<Rule> rule_;
  Replica replica_;         // its weights are the context's
  std::vector<Bytes> log_;  // an entry a round
  // Rounds that a client has taken, behind which it answered with what it needs for more; without
  // an entry it has nothing yet.
  std::map<PeerId, std::int64_t> known_;
  std::int64_t task_round_ = 0;
  // By known, or -1 at first contact, and steps.
  std::map<std::pair<std::int64_t, std::int64_t>, SharedMessage> tasks_;
};

class ReplayClient final : public RoundClient {
 public:
  explicit ReplayClient(std::unique_ptr<Rule> rule) : rule_(std::move(rule)) { begin(); }

  std::vector<float> global(const Message& task, ClientContext&) override {
    return follow(task) ? weights_ : std::vector<float>();
  }

  Work work(const Message& task, ClientContext& ctx) override {
    if (!follow(task)) return {Message(kBehind)};
    std::int64_t steps = ctx.plan.train.steps;
    if (task.scalars.contains("steps")) {
      steps = wire::Expect(task, "train").integer("steps", 1, steps);
    }
    learn::LearnerPool::Lease learner = ctx.learners.acquire();
    std::ranges::copy(weights_, learner->weights().begin());
    Measured measured = rule_->measure(replica_, steps, *learner, ctx);
    return {Message("update")
                .with("examples", static_cast<std::int64_t>(ctx.train.size()))
                .with("loss", measured.loss)
                .with("steps", measured.steps)
                .with("measured", tensor_of(std::move(measured.bytes))),
            measured.steps};
  }

  Message save() const override {
    Message state("state");
    if (replica_.round == 0 && !rule_->directions.masked()) return state;
    state.scalars.emplace("round", replica_.round);
    state.tensors.emplace("weights", Tensor::of(moving(rule_->directions, weights_), {}));
    state.tensors.emplace("curvature", Tensor::of(replica_.curvature, {}));
    put_mask(rule_->directions, state);
    return state;
  }
  void load(const Message& state) override {
    begin();
    take_mask(state, rule_->directions);
    take(state);
    replica_.round = wire::Expect(state, "state").integer("round", 0, kRoundsMax);
  }

 private:
  void begin() {
    weights_ = rule_->plan.initial;
    replica_ = {0, weights_, rule_->first_curvature()};
  }

  // The weights and curvature of a message.
  void take(const Message& from) {
    const wire::Expect fields(from, from.kind);
    const auto length = [](std::size_t count) { return Shape{static_cast<std::int64_t>(count)}; };
    set_moving(rule_->directions, fields.f32("weights", length(moving_count(rule_->directions))),
               weights_);
    const auto curvature = fields.f32("curvature", length(replica_.curvature.size()));
    replica_.curvature.assign(curvature.begin(), curvature.end());
  }

  // Brings the replica to the task's. False if what that goes on from is not here.
  bool follow(const Message& task) {
    const wire::Expect expect(task, "train");
    const std::int64_t round = expect.integer("round", 1, kRoundsMax);
    if (!rule_->directions.masked()) take_mask(task, rule_->directions);
    if (rule_->has_mask() && !rule_->directions.masked()) return false;
    if (replica_.round >= round - 1) return true;
    if (task.tensors.contains("weights")) {
      take(task);
      replica_.round = round - 1;
      return true;
    }
    const std::int64_t from = expect.integer("from", 1, round);
    if (from > replica_.round + 1) return false;
    ByteView log = bytes_in(task, "log");
    for (std::int64_t r = from; r < round; ++r) {
      const std::size_t length = rule_->entry_bytes(log);
      if (r > replica_.round) rule_->advance(replica_, log.first(length));
      log = log.subspan(length);
    }
    if (!log.empty()) throw WireError("\"train\": bytes behind the log");
    return true;
  }

  std::unique_ptr<Rule> rule_;
  std::vector<float> weights_;  // the replica's
  Replica replica_;
};

}  // namespace

std::unique_ptr<ServerMethod> make_replay_server(std::unique_ptr<Rule> rule) {
  return std::make_unique<ReplayServer>(std::move(rule));
}
std::unique_ptr<ClientMethod> make_replay_client(std::unique_ptr<Rule> rule) {
  return std::make_unique<ReplayClient>(std::move(rule));
}

}  // namespace fedctl::methods
