// Every method of the registry, over the in-process mesh (which encodes every frame), on the
// quadratic toy; methods that cut the model, on the tiny one in parts.
#include <catch2/catch.hpp>
#include <cstring>

#include "data/registry.hpp"
#include "learn/spec.hpp"
#include "math/vectors.hpp"
#include "support/parted.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using test::play;
using test::Played;

namespace {

constexpr std::int64_t kClients = 6;

struct Toy : test::Game {
  explicit Toy(const std::string& kind, const std::map<std::string, double>& sgd = {}) {
    config::Plugin targets = config::make_plugin(data::dataset_kinds(), "quadratic_targets",
                                                 {{"rows", 8}, {"cols", 4}, {"rank", 2}});
    source = data::open(targets, Rng(1).stream("data"));
    data = source.train.get();
    const config::Plugin by_field = config::make_plugin(data::partitioner_kinds(), "by_field");
    for (const data::Share& share :
         data::partition(by_field, *source.train, kClients, 0, Rng(1).stream("partition"))) {
      shares.push_back(share.train);
    }
    const learn::LearnerSpec spec{config::make_plugin(learn::family_kinds(), "quadratic"),
                                  config::make_plugin(learn::adapter_kinds(), "full"),
                                  source.train->info(), Rng(1).stream("init")};
    pool = std::make_unique<learn::LearnerPool>(learn::make_factory(spec), 2);
    learners = pool.get();
    plan.rounds = 6;
    plan.clients = plan.per_round = kClients;
    plan.quorum = 0.5;
    plan.layout = learners->acquire()->layout();
    plan.train.steps = 4;
    plan.train.batch_size = 1;
    const MethodEntry& entry = fedctl::methods::method(kind);
    std::map<std::string, double> numbers = sgd;
    // Of those who train on between rounds the momentum would live on beside the server's.
    if (entry.plain_sgd || entry.whole_cohort || entry.needs == "loss") numbers["momentum"] = 0;
    if (entry.needs == "loss") numbers["lr"] = 0.01;  // a step along z is |z|^2 times as long
    plan.train.optimizer = config::make_plugin(learn::optimizer_kinds(), "sgd", numbers);
    method = config::make_plugin(method_kinds(), kind);
    if (kind == "meerkat") {  // its defaults need public data and a large model
      method = config::make_plugin(method_kinds(), kind, {{"ratio", 0.5}});
      test::choose(method, "mask", "random");
    }
    if (kind == "fedbuff") method = config::make_plugin(method_kinds(), kind, {{"buffer", 3}});
    threads = 2;
    if (entry.needs == "parts") {
      static_cast<test::Game&>(*this) = parted.game(kind);
      in_parts = true;
    }
  }
  // From what the method is to find.
  double gap(std::span<const float> weights) {
    return in_parts ? parted.loss(weights) : distance_to_mean(weights);
  }

  double distance_to_mean(std::span<const float> weights) {
    // The minimiser of the average objective is the mean of the clients' targets.
    std::vector<double> mean(weights.size());
    for (std::size_t i = 0; i < source.train->size(); ++i) {
      const data::Batch batch = source.train->gather(std::span(&i, 1));
      const auto target = batch.at("target").f32();
      for (std::size_t j = 0; j < mean.size(); ++j)
        mean[j] += static_cast<double>(target[j]) / kClients;
    }
    double sum = 0;
    for (std::size_t j = 0; j < mean.size(); ++j) {
      const double gap = static_cast<double>(weights[j]) - mean[j];
      sum += gap * gap;
    }
    return std::sqrt(sum);
  }

  test::PartedProblem parted{{}, kClients};
  bool in_parts = false;
  data::Source source;
  std::unique_ptr<learn::LearnerPool> pool;
};

std::vector<std::string> all_methods() {
  std::vector<std::string> names;
  for (const MethodEntry& entry : fedctl::methods::methods()) names.push_back(entry.kind.name);
  return names;
}

}  // namespace

TEST_CASE("every method finishes, learns, and repeats bit for bit on any number of threads",
          "[methods]") {
  for (const std::string& name : all_methods()) {
    INFO(name);
    Toy toy(name);
    // Steps along random directions are many and small.
    const bool slopes = fedctl::methods::method(name).needs == "loss";
    if (slopes) toy.plan.rounds = 150;
    if (name == "diloco") toy.plan.rounds = 60;  // its momentum overshoots at first
    toy.threads = 1;
    const Played one = play(toy);
    toy.threads = 3;
    const Played three = play(toy);
    CHECK(one.error.empty());
    REQUIRE(one.reports.size() == static_cast<std::size_t>(toy.plan.rounds));
    CHECK(one.weights == three.weights);
    CHECK(one.all_bytes().up == three.all_bytes().up);
    CHECK(one.all_bytes().down == three.all_bytes().down);
    std::vector<float> start = toy.plan.initial;
    start.resize(one.last().size());
    CHECK(toy.gap(one.last()) < 0.8 * toy.gap(start));
  }
}

TEST_CASE("every method goes on from a saved boundary as if nothing had happened", "[methods]") {
  for (const std::string& name : all_methods()) {
    INFO(name);
    // What is at work at a boundary is asked again, and comes later than it would have.
    if (!fedctl::methods::method(name).rounds) continue;
    Toy toy(name);
    toy.plan.per_round = 4;
    const Played whole = play(toy);
    toy.stop_after = 3;
    const Played half = play(toy);
    toy.stop_after = -1;
    toy.first_round = 4;
    toy.after = &half;
    CHECK(play(toy).last() == whole.last());
  }
}

TEST_CASE("every method ends cleanly when a client is lost at any send", "[methods]") {
  for (const std::string& name : all_methods()) {
    Toy toy(name);
    toy.plan.rounds = 2;
    for (std::size_t at = 0; at < 2 * kClients; ++at) {
      INFO(name << ", lost at send " << at);
      toy.lost_sends = {at};
      const Played outcome = play(toy);
      CHECK(outcome.error.empty());
      REQUIRE(outcome.reports.size() == 2);
      const std::int64_t lost = outcome.reports[0].lost + outcome.reports[1].lost;
      // Without rounds the run may end before that many have answered.
      if (fedctl::methods::method(name).rounds) CHECK(lost == 1);
      CHECK(lost <= 1);
    }
  }
}

TEST_CASE("a round that misses its quorum goes on when the clients are back", "[methods]") {
  for (const std::string& name : all_methods()) {
    const MethodEntry& entry = fedctl::methods::method(name);
    if (!entry.rounds) continue;
    INFO(name);
    Toy toy(name);
    toy.plan.quorum = 1;
    const Played calm = play(toy);
    toy.lost_answers = {{1, 0}, {4, 2}};
    const Played disturbed = play(toy);
    REQUIRE(disturbed.error.empty());
    CHECK(disturbed.shortages >= 1);
    REQUIRE(disturbed.reports.size() == 6);
    for (const RoundReport& report : disturbed.reports) CHECK(report.replied == kClients);
    const bool same = disturbed.weights == calm.weights;
    if (!entry.neighbours) CHECK(same);  // neighbours go on without one that is lost
    toy.plan.attempts_max = 1;
    const Played ended = play(toy);
    CHECK(ended.error.find("quorum not reached") != std::string::npos);
    CHECK(ended.weights.size() < 6);
  }
}

TEST_CASE("whose answers cannot be used is not asked again in the same round",
          "[methods][hostile]") {
  Toy toy("fedavg");
  toy.plan.rounds = 2;
  toy.plan.per_round = 3;
  toy.plan.quorum = 1;
  toy.lies = {{0, Message("surprise")}, {2, Message("surprise")}};
  const Played outcome = play(toy);
  CHECK(outcome.error.empty());
  CHECK(outcome.reports.size() == 2);
  CHECK(outcome.shortages > 0);
  toy.plan.per_round = 5;  // of four that work
  const Played in_vain = play(toy);
  CHECK(in_vain.error.find("; client 0: ") != std::string::npos);
}

namespace {

// What client 0 makes of an answer of its own.
using Lie = void (*)(Message& answer);

void say_huge(Message& answer) {
  const float huge = 3e38F;
  for (auto& [name, tensor] : answer.tensors) {
    const bool numbers = tensor.dtype == DType::f32 || name == "slopes" || name == "measured" ||
                         name == "sums" || name == "rows" || name == "start";
    if (!numbers || tensor.bytes.size() % 4 != 0) continue;
    for (std::size_t at = 0; at < tensor.bytes.size(); at += 4) {
      std::memcpy(tensor.bytes.data() + at, &huge, 4);
    }
  }
}
void say_a_byte_less(Message& answer) {
  for (auto& [name, tensor] : answer.tensors) {
    if (tensor.dtype != DType::u8 || tensor.bytes.empty()) continue;
    tensor.bytes.pop_back();
    tensor.shape = {static_cast<std::int64_t>(tensor.bytes.size())};
  }
}
void say_many(Message& answer) {
  if (answer.scalars.contains("examples")) answer.scalars["examples"] = std::int64_t{10};
}
void say_a_long_path(Message& answer) {
  if (answer.scalars.contains("path")) answer.scalars["path"] = 1e300;
}

}  // namespace

TEST_CASE("every method goes on beside a client whose answers it cannot use",
          "[methods][hostile]") {
  for (const std::string& name : all_methods()) {
    for (const Lie lie : {say_huge, say_a_byte_less, say_many, say_a_long_path}) {
      Toy toy(name);
      for (const auto& share : toy.shares) toy.plan.dealt.push_back(std::ssize(share));
      std::size_t lies = 0;
      toy.tamper = [&](PeerId id, Message& answer) {
        const Message honest = answer;
        if (id == 0) lie(answer);
        if (!(answer == honest)) ++lies;
      };
      toy.threads = 1;
      const Played outcome = play(toy);
      INFO(name << ", " << lies << " lies: " << outcome.error);
      CHECK(outcome.error.empty());
      REQUIRE(outcome.reports.size() == static_cast<std::size_t>(toy.plan.rounds));
      CHECK(math::all_finite(outcome.last()));
      CHECK(toy.gap(outcome.last()) < 1e6);
      std::int64_t rejected = 0;
      for (const RoundReport& report : outcome.reports) rejected += report.rejected;
      // Four bytes of just_one_byte's are four slopes like any.
      const bool allowed = name == "just_one_byte" && lie == say_huge;
      CHECK((rejected > 0) == (lies > 0 && !allowed));
    }
  }
}

TEST_CASE("fedavg sends 4 d bytes of payload each way", "[methods][fedavg]") {
  Toy toy("fedavg");
  const talk::Crossing bytes = play(toy).all_bytes();
  const std::size_t messages = 6 * kClients;
  CHECK(bytes.down.payload == messages * 4 * toy.plan.layout.size());
  CHECK(bytes.up.payload == messages * 4 * toy.plan.layout.size());
}

TEST_CASE("a lying client is rejected and the round goes on without it", "[methods][hostile]") {
  Toy toy("fedavg");
  toy.plan.rounds = 1;
  const auto size = static_cast<std::int64_t>(toy.plan.layout.size());
  const auto update = [](Tensor delta, std::int64_t examples, double loss) {
    return Message("update")
        .with("delta", std::move(delta))
        .with("examples", examples)
        .with("steps", std::int64_t{1})
        .with("loss", loss);
  };
  Tensor nan = Tensor::zeros(DType::f32, {size});
  nan.f32()[3] = std::numeric_limits<float>::quiet_NaN();
  const Tensor good = Tensor::zeros(DType::f32, {size});
  const std::vector<Message> lies = {
      update(nan, 1, 0),
      update(Tensor::zeros(DType::f32, {size + 1}), 1, 0),
      update(Tensor::zeros(DType::f32, {size, 1}), 1, 0),
      update(Tensor::zeros(DType::f64, {size}), 1, 0),
      update(good, 0, 0),
      update(good, -5, 0),
      update(good, 1, std::numeric_limits<double>::infinity()),
      update(good, 1, 0).with("holdout_count", std::int64_t{0}),
      update(good, 1, 0).with("holdout_count", std::int64_t{4}),
      update(good, 1, 0)
          .with("holdout_count", std::int64_t{4})
          .with("holdout_correct", std::int64_t{5})
          .with("holdout_loss", 1.0),
      update(good, 1, 0)
          .with("holdout_count", std::int64_t{4})
          .with("holdout_correct", std::int64_t{4})
          .with("holdout_loss", -1.0),
      Message("update"),
      Message("surprise"),
      Message(kFailed),
  };
  for (const Message& lie : lies) {
    toy.lies = {{0, lie}};
    const Played outcome = play(toy);
    CHECK(outcome.error.empty());
    REQUIRE(outcome.reports.size() == 1);
    CHECK(outcome.reports[0].rejected == 1);
    CHECK(outcome.reports[0].replied == kClients - 1);
  }
}

// With f_k(w) = |w - c_k|^2 / 2 and plain gradient descent, tau local steps contract every
// coordinate by (1 - lr)^tau towards c_k, so the mean contracts towards the mean of the c_k:
//   x_{t} = c + (1 - lr)^{tau t} (x_0 - c)
TEST_CASE("fedavg follows its closed form on the toy problem", "[methods][fedavg]") {
  Toy toy("fedavg", {{"momentum", 0}});  // it would make the recursion second-order
  const double lr = learn::learning_rate(toy.plan.train.optimizer);
  const Played outcome = play(toy);
  const std::vector<float> start(outcome.last().size());
  const double from = toy.distance_to_mean(start);
  for (std::size_t round = 1; round <= 6; ++round) {
    const double expected = from * std::pow(1 - lr, 4.0 * static_cast<double>(round));
    CHECK(toy.distance_to_mean(outcome.weights[round - 1]) == Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("fedprox with mu = 0 is fedavg bit for bit, and mu > 0 keeps clients closer",
          "[methods][fedprox]") {
  const Toy plain("fedavg");
  Toy prox("fedprox");
  prox.method = config::make_plugin(method_kinds(), "fedprox", {{"mu", 0}});
  CHECK(play(plain).weights == play(prox).weights);
  prox.method = config::make_plugin(method_kinds(), "fedprox", {{"mu", 5}});
  CHECK(play(prox).reports[0].update_norm < 0.9 * play(plain).reports[0].update_norm);
}
