// sfprompt: its algebra on a tiny model in parts, its bytes, and what a hostile client gets.
#include <catch2/catch.hpp>

#include "data/registry.hpp"
#include "learn/spec.hpp"
#include "methods/detail/exchanges.hpp"
#include "methods/detail/split.hpp"
#include "support/parted.hpp"

using namespace fedctl;
using namespace fedctl::methods;
using Catch::Matchers::Contains;
using test::PartedProblem;
using test::play;
using test::Played;

namespace {

using Sizes = test::Parted::Sizes;

double farthest(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return most;
}

// One client, one batch of all its examples, one round.
test::Game one_step(const PartedProblem& problem, const std::map<std::string, double>& options) {
  test::Game game = problem.game("sfprompt", options);
  game.plan.clients = game.plan.per_round = game.plan.rounds = 1;
  game.plan.train.batch_size = 16;
  game.shares.resize(1);
  return game;
}

Tensor matrix(const std::vector<float>& values, std::int64_t columns) {
  return Tensor::of(std::span<const float>(values),
                    {static_cast<std::int64_t>(values.size()) / columns, columns});
}

}  // namespace

TEST_CASE("sfprompt: split training is training of the whole model", "[methods][sfprompt]") {
  const bool first_only = GENERATE(false, true);
  const std::int64_t blocks = GENERATE(1, 2);
  const PartedProblem problem(Sizes{.first_only = first_only});
  const Played split =
      play(one_step(problem, {{"local", 0}, {"keep", 1}, {"blocks", static_cast<double>(blocks)}}));
  REQUIRE(split.error.empty());
  REQUIRE(split.weights.size() == 1);
  const Played whole = [&] {
    test::Game game = problem.game("fedavg");
    game.plan.clients = game.plan.per_round = game.plan.rounds = 1;
    game.plan.train.batch_size = 16;
    game.shares.resize(1);
    return play(game);
  }();
  CHECK(farthest(split.last(), whole.last()) < 1e-6);
  CHECK(farthest(split.last(), problem.game("fedavg").plan.initial) > 1e-2);
}

TEST_CASE("sfprompt: so it is with LibTorch's models", "[methods][sfprompt][torch]") {
  const auto [model, options, dataset] = GENERATE(table<const char*, const char*, const char*>(
      {{"vit", "", "glyphs"}, {"bert", "cls", "phrases"}, {"bert", "mean", "phrases"}}));
  INFO(model << ' ' << options);
  const data::Source source =
      data::open(config::make_plugin(data::dataset_kinds(), dataset), Rng(1).stream("data"));
  learn::LearnerSpec spec{config::make_plugin(learn::family_kinds(), model),
                          config::make_plugin(learn::adapter_kinds(), "prompt", {{"tokens", 3}}),
                          source.train->info(), Rng(1).stream("init")};
  test::choose(spec.model, "pooling", options);
  learn::LearnerPool pool(learn::make_factory(spec), 1);
  test::Game game = PartedProblem().game("fedavg");
  game.learners = &pool;
  game.data = source.train.get();
  game.shares = {{3, 1, 4, 15, 9, 2, 6}};
  {
    learn::LearnerPool::Lease learner = pool.acquire();
    game.plan.layout = learner->layout();
  }
  game.plan.initial.clear();
  Rng rng(2);
  for (std::size_t i = 0; i < game.plan.layout.size(); ++i) {
    game.plan.initial.push_back(static_cast<float>(0.3 * rng.normal()));
  }
  game.plan.clients = game.plan.per_round = game.plan.rounds = 1;
  game.plan.train.batch_size = 16;
  game.plan.train.optimizer =
      config::make_plugin(learn::optimizer_kinds(), "sgd", {{"lr", 1}, {"momentum", 0}});
  const Played whole = play(game);
  game.method = PartedProblem().game("sfprompt", {{"local", 0}, {"keep", 1}}).method;
  const Played split = play(game);
  REQUIRE(split.error.empty());
  CHECK(farthest(split.last(), whole.last()) < 1e-5);  // of the gradients, the rate is 1
  CHECK(farthest(split.last(), game.plan.initial) > 1e-2);
}

TEST_CASE("sfprompt: with a body that changes nothing both phases take the same step",
          "[methods][sfprompt]") {
  const PartedProblem problem(Sizes{.first_only = GENERATE(false, true), .identity_body = true});
  // Two steps through the body, or one without it and one through it.
  test::Game twice = one_step(problem, {{"local", 0}, {"keep", 1}});
  twice.plan.rounds = 2;
  const Played split = play(twice);
  const Played mixed = play(one_step(problem, {{"local", 1}, {"keep", 1}}));
  REQUIRE(split.weights.size() == 2);
  CHECK(farthest(split.last(), mixed.last()) < 1e-6);
}

TEST_CASE("sfprompt: EL2N scores and the examples they keep", "[methods][sfprompt]") {
  const std::vector<std::int64_t> labels = {0, 2};
  for (const std::int64_t classes : {3, 10}) {
    const Tensor same = Tensor::zeros(DType::f32, {2, classes});
    const double expected =
        std::sqrt(static_cast<double>(classes - 1) / static_cast<double>(classes));
    for (const double score : el2n(same, labels)) CHECK(score == Approx(expected).epsilon(1e-12));
  }
  const Tensor sure = matrix({200, 0, 0, 0, 200, 0}, 3);
  CHECK(el2n(sure, labels)[0] == Approx(0).margin(1e-12));
  CHECK(el2n(sure, labels)[1] == Approx(std::sqrt(2.0)));

  const std::vector<double> scores = {0.5, 0.9, 0.5, 0.1, 0.5};
  using Kept = std::vector<std::size_t>;
  CHECK(select(scores, 0.5, true) == Kept{0, 1, 2});  // ceil(2.5), of equals the first
  CHECK(select(scores, 0.5, false) == Kept{0, 2, 3});
  CHECK(select(scores, 0.2, true) == Kept{1});
  CHECK(select(scores, 0.21, true).size() == 2);
  CHECK(select(scores, 1e-6, true).size() == 1);
  CHECK(select(scores, 1, true) == Kept{0, 1, 2, 3, 4});
  CHECK(select(std::vector<double>(30, 1.0), 0.1, true).size() == 3);
}

TEST_CASE("sfprompt: the gradient of the loss is its slope", "[methods][sfprompt]") {
  std::vector<float> values = {0.3F, -1, 2, 0.5F, 0.1F, -0.7F};
  const std::vector<std::int64_t> labels = {1, 0};
  const Loss loss = cross_entropy(matrix(values, 3), labels);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::vector<float> up = values, down = values;
    up[i] += 1e-2F;
    down[i] -= 1e-2F;
    const double slope =
        (cross_entropy(matrix(up, 3), labels).mean - cross_entropy(matrix(down, 3), labels).mean) /
        2e-2;
    CHECK(static_cast<double>(loss.slope.f32()[i]) == Approx(slope).margin(1e-4));
  }
}

// 4 d + 4 N' (q_F + q_A) down, 4 d + N' (4 (q_A + q_F) + 8) up, N' = ceil(keep n).
TEST_CASE("sfprompt: bytes are the formula's, whatever phase 1 does", "[methods][sfprompt]") {
  const bool first_only = GENERATE(false, true);
  const PartedProblem problem(Sizes{.first_only = first_only});
  const std::size_t all = 5 * 4, read = first_only ? 4 : all;  // values of an example
  for (const double keep : {0.3, 0.5, 1.0}) {
    test::Game game = problem.game("sfprompt", {{"keep", keep}});
    game.plan.rounds = 2;
    const auto kept = static_cast<std::size_t>(std::ceil(keep * 9));
    const std::size_t model = 4 * game.plan.layout.size();
    const std::size_t down = model + 4 * kept * (read + all);
    const std::size_t up = model + kept * (4 * (all + read) + 8);
    for (const std::int64_t epochs : {1, 3}) {
      game.plan.train.epochs = epochs;
      const talk::Crossing bytes = play(game).all_bytes();
      CHECK(bytes.down.payload == 2 * 6 * down);
      CHECK(bytes.up.payload == 2 * 6 * up);
    }
    game.method = problem.game("sfprompt", {{"keep", keep}, {"local", 0}}).method;
    CHECK(play(game).all_bytes().up.payload == 2 * 6 * up);
  }
}

TEST_CASE("sfprompt: a cut whose short model sees no example is refused", "[methods][sfprompt]") {
  // The head reads the first row, which is the same for all before the rows are mixed.
  test::Parted learner(Sizes{.first_only = true});
  const PartedProblem problem(Sizes{.first_only = true});
  const test::Game game = problem.game("sfprompt");
  const std::vector<std::size_t> two = {0, 1};
  for (const std::int64_t blocks : {0, 1}) {
    const Cut cut = cut_model(learner, blocks);
    const TensorMap state = cut.front.forward(learner, game.data->gather(two));
    const Tensor logits = cut.tail.forward(learner, first_rows(state)).at("logits");
    const auto first = logits.f32().first(3), second = logits.f32().subspan(3);
    CHECK(std::ranges::equal(first, second) == (blocks == 0));
  }
  CHECK_THROWS_WITH(cut_model(learner, 3), Contains("method.blocks is 3"));
  CHECK_NOTHROW(cut_model(learner, 2));

  // The client says so before it answers anything.
  const auto client =
      fedctl::methods::method("sfprompt")
          .make_client(*problem.game("sfprompt", {{"blocks", 0}}).method.options, game.plan);
  ClientContext context{game.plan, 0, *game.learners, *game.data, game.shares[0], Rng(1)};
  const Message task = Message("train")
                           .with("round", std::int64_t{1})
                           .with("weights", Tensor::of(game.plan.initial, {}));
  CHECK_THROWS_WITH(dynamic_cast<RoundClient&>(*client).work(task, context),
                    Contains("method.blocks is 0"));
}

TEST_CASE("sfprompt: switches", "[methods][sfprompt]") {
  const PartedProblem problem;
  const auto last = [&](const std::map<std::string, double>& options, const char* score) {
    test::Game game = problem.game("sfprompt", options);
    if (score != nullptr) test::choose(game.method, "score", score);
    return play(game).last();
  };
  const std::vector<float> plain = last({}, nullptr);
  CHECK(last({{"prune_first", 1}}, nullptr) != plain);
  CHECK(last({}, "smallest") != plain);
  CHECK(last({}, "largest") == plain);
  CHECK(last({{"ablate", 1}}, nullptr) == last({{"keep", 1}}, nullptr));
  CHECK(last({{"ablate", 1}}, nullptr) != plain);
}

TEST_CASE("sfprompt: a client may be lost at any answer of the conversation",
          "[methods][sfprompt]") {
  const PartedProblem problem;
  test::Game game = problem.game("sfprompt");  // 5 of 9 examples: two batches, five answers
  game.plan.rounds = 1;
  for (std::size_t at = 0; at < 5; ++at) {
    game.lost_answers = {{2, at}};
    const Played outcome = play(game);
    INFO(at);
    CHECK(outcome.error.empty());
    REQUIRE(outcome.reports.size() == 1);
    CHECK(outcome.reports[0].lost == 1);
    CHECK(outcome.reports[0].replied == 5);
  }
  game.lost_answers = {{2, 5}};
  CHECK(play(game).reports[0].replied == 6);
}

TEST_CASE("sfprompt: a lying client is rejected and the round goes on", "[methods][sfprompt]") {
  const PartedProblem problem;
  test::Game game = problem.game("sfprompt");
  game.plan.rounds = 1;
  const auto rows = [](std::size_t bytes, std::vector<std::int64_t> lengths, float value = 0) {
    std::vector<float> values(bytes / 4, value);
    Tensor tensor = bytes_of_rows(Tensor::of(std::span<const float>(values), {}));
    tensor.bytes.resize(bytes);
    tensor.shape = {static_cast<std::int64_t>(bytes)};
    return Message("rows")
        .with("rows", std::move(tensor))
        .with("lengths", Tensor::of(std::span<const std::int64_t>(lengths), {}));
  };
  const std::vector<Message> lies = {
      rows(80, {5}),  // good, but the answer to its features is not "rows"
      rows(79, {5}),
      rows(0, {5}),
      rows(84, {5}),
      rows(80, {4}),
      rows(80, {}),
      rows(80, {0}),
      rows(80, {-5, 10}),
      rows(80,
           {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max()}),
      rows(400, {5, 5, 5, 5, 5}),  // more than a batch
      rows(100, {5}),              // wider than the model
      rows(80, {5}, std::numeric_limits<float>::infinity()),
      Message("rows"),
      Message("rows").with("rows", Tensor::zeros(DType::f32, {5, 4})),
      Message("slopes"),
      Message("update"),
      Message("update").with("delta", Tensor::zeros(DType::f32, {3})),
      Message("surprise"),
      Message(kFailed),
      Message(kFailed).with("reason", "tired"),
  };
  for (const Message& lie : lies) {
    game.lies = {{0, lie}};
    const Played outcome = play(game);
    INFO(lie.kind);
    CHECK(outcome.error.empty());
    REQUIRE(outcome.reports.size() == 1);
    CHECK(outcome.reports[0].rejected == 1);
    CHECK(outcome.reports[0].replied == 5);
  }
}

TEST_CASE("sfprompt: a client without this round's state says so", "[methods][sfprompt]") {
  const PartedProblem problem;
  const test::Game game = problem.game("sfprompt");
  const auto client =
      fedctl::methods::method("sfprompt").make_client(*game.method.options, game.plan);
  ClientContext context{game.plan, 0, *game.learners, *game.data, game.shares[0], Rng(1)};
  auto& worker = dynamic_cast<RoundClient&>(*client);
  for (const char* kind : {"features", "slopes", "surprise"}) {
    CHECK(worker.work(Message(kind), context).answer.kind == kFailed);
  }
}

TEST_CASE("a round's questions have numbers of their own and are of that round", "[methods]") {
  std::set<ExchangeId> seen;
  for (const std::int64_t round : {std::int64_t{1}, std::int64_t{10'000'000}}) {
    for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, kStepsMax}) {
      CHECK(round_of(step_exchange(round, step)) == round);
      CHECK(seen.insert(step_exchange(round, step)).second);
    }
    for (const int stage : {0, 1, 3}) {
      CHECK(round_of(stage_exchange(round, stage)) == round);
      CHECK(seen.insert(stage_exchange(round, stage)).second);
    }
    CHECK(stage_exchange(round, 2) == static_cast<ExchangeId>(round));
  }
}
