// The straggler simulator: a real round server over the mesh, clients that take modelled time.
#include "methods/stragglers.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "config/config.hpp"
#include "methods/method.hpp"
#include "talk/mesh.hpp"

using namespace fedctl;
using namespace fedctl::methods;
namespace asio = boost::asio;

namespace {

// Asks, and merges nothing.
class Probe final : public RoundServer {
 public:
  SharedMessage instruct(std::int64_t, PeerId, ServerContext&) override { return task_; }
  void inspect(PeerId, const Message&, const ServerContext&) override {}
  Merged merge(std::int64_t, const Replies&, ServerContext&) override { return {}; }

 private:
  SharedMessage task_ = wire::share(Message("train"));
};

// Seconds that a client takes for a round.
using Time = std::function<double(PeerId, std::int64_t round)>;
// Whether it hangs up instead of answering.
using Leaves = std::function<bool(PeerId, std::int64_t round)>;

struct Setting {
  std::int64_t clients = 50, per_round = 0, rounds = 100;
  double deadline_s = 0, quorum = 0.5;
  Time time;
  Leaves leaves = {};
};

struct Outcome {
  std::vector<RoundReport> reports;
  std::vector<nlohmann::json> lines;
  std::vector<nlohmann::json> of(const std::string& event, const std::string& what = "") const {
    std::vector<nlohmann::json> found;
    for (const auto& line : lines) {
      if (line["event"] == event && (what.empty() || line["what"] == what)) found.push_back(line);
    }
    return found;
  }
  // How long questions were open, s.
  double open_s(std::size_t index) const { return reports[index].train_ms * 1e-3; }
  double median_s() const {
    std::vector<double> all;
    for (const RoundReport& report : reports) all.push_back(report.train_ms * 1e-3);
    std::ranges::nth_element(all, all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2));
    return all[all.size() / 2];
  }
};

struct Sink final : RoundSink {
  explicit Sink(std::vector<RoundReport>& into) : reports(into) {}
  bool commit(const RoundReport& report, const ServerMethod&) override {
    reports.push_back(report);
    return true;
  }
  std::vector<RoundReport>& reports;
};

Task<void> work(Endpoint& net, PeerId id, const Setting& setting) {
  while (true) {
    const std::optional<talk::Envelope> envelope = co_await net.receive(kForever);
    if (!envelope || std::holds_alternative<talk::Closed>(envelope->event)) co_return;
    if (!std::holds_alternative<Message>(envelope->event)) continue;
    const auto round = static_cast<std::int64_t>(envelope->exchange);
    net.spend(seconds(setting.time(id, round)));
    co_await talk::reply(net, *envelope, Message("done"));
  }
}

Outcome play(const Setting& setting) {
  Outcome outcome;
  const std::string path =
      (std::filesystem::temp_directory_path() / ("stragglers-" + std::to_string(::getpid())))
          .string();
  std::filesystem::remove(path);
  std::filesystem::remove(path + ".chain");
  {
    journal::Journal journal(path, {"test", "server", {}}, [] { return std::int64_t{0}; });
    talk::Mesh::Options options;
    for (PeerId id = 0; id < setting.clients; ++id) options.clients.push_back(id);
    talk::Mesh mesh(std::move(options));
    if (setting.leaves) {
      mesh.lose_at([&](PeerId id, std::size_t sends) {
        return setting.leaves(id, static_cast<std::int64_t>(sends));
      });
    }
    asio::thread_pool pool(1);
    for (PeerId id = 0; id < setting.clients; ++id) {
      const asio::any_io_executor seat = asio::make_strand(pool);
      asio::co_spawn(seat, work(mesh.attach(id, seat), id, setting),
                     [&mesh, id](std::exception_ptr error) {
                       if (error) std::rethrow_exception(error);
                       mesh.detach(id, "done");
                     });
    }
    JobPlan plan;
    plan.rounds = setting.rounds;
    plan.clients = setting.clients;
    plan.per_round = setting.per_round > 0 ? setting.per_round : setting.clients;
    plan.quorum = setting.quorum;
    plan.deadline_s = setting.deadline_s;
    const asio::any_io_executor home = asio::make_strand(pool);
    Endpoint& server = mesh.attach(talk::kServer, home);
    Probe probe;
    std::vector<float> weights(1);
    config::Plugin mean = config::make_plugin(aggregate::aggregator_kinds(), "mean");
    const auto aggregator = aggregate::aggregators().front().make(*mean.options);
    Sink sink(outcome.reports);
    Stragglers stragglers(setting.deadline_s == 0);
    learn::LearnerPool learners(nullptr, 1);
    ServerContext context{plan,    weights, *aggregator, Rng(1).stream("server"),
                          journal, sink,    stragglers,  learners,
                          1};
    asio::co_spawn(home, probe.run(server, context), [&](std::exception_ptr error) {
      mesh.detach(talk::kServer, "done");
      if (error) std::rethrow_exception(error);
    });
    pool.join();
  }
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    outcome.lines.push_back(nlohmann::json::parse(line));
  }
  return outcome;
}

// 60 s with log-normal jitter of 30 %.
Time jitter(std::uint64_t seed) {
  return [seed](PeerId id, std::int64_t round) {
    Rng rng = Rng(seed).stream("time", id, round);
    return 60 * std::exp(0.3 * rng.normal());
  };
}

}  // namespace

TEST_CASE("straggler simulator: five times slower from round 10 on is found",
          "[methods][stragglers]") {
  std::size_t by_12 = 0, patient_by_12 = 0, flagged = 0;
  constexpr std::uint64_t kSeeds = 100;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    INFO("seed " << seed);
    const Time usual = jitter(seed);
    const Time time = [&](PeerId id, std::int64_t round) {
      return usual(id, round) * (id == 7 && round >= 10 ? 5 : 1);
    };
    const Outcome outcome = play({.rounds = 40, .time = time});
    std::vector<nlohmann::json> slow;
    for (const auto& line : outcome.of("straggler", "slow")) {
      if (line["peer"] == 7) slow.push_back(line);
      flagged += line["peer"] == 7 ? 0 : 1;
    }
    REQUIRE(!slow.empty());
    // Three rounds of the others' are shorter than one answer of this one.
    CHECK(slow[0]["round"] >= 11);
    CHECK(slow[0]["round"] <= 16);
    by_12 += slow[0]["round"] <= 12 ? 1 : 0;
    CHECK(slow[0]["took_ms"] > 2.5 * slow[0]["usual_ms"].get<double>());
    const auto isolated = outcome.of("straggler", "isolated");
    REQUIRE(!isolated.empty());
    for (const auto& line : isolated) CHECK(line["peer"] == 7);
    // Once the clients' times are known no round is much longer than the others.
    for (std::size_t i = 1; i < outcome.reports.size(); ++i) {
      CHECK(outcome.open_s(i) <= 1.6 * outcome.median_s());
    }
    CHECK(outcome.of("late").size() > 1);
    CHECK(outcome.of("extend").empty());

    // With time enough for every answer two rounds do.
    const Outcome patient = play({.rounds = 25, .deadline_s = 1000, .time = time});
    const auto found = patient.of("straggler");
    REQUIRE(!found.empty());
    flagged += found[0]["peer"] == 7 ? 0 : 1;
    patient_by_12 += found[0]["round"] <= 12 ? 1 : 0;
    CHECK(patient.of("straggler", "isolated").empty());
  }
  WARN("found by round 12 of " << kSeeds << ": " << by_12 << "; with a long deadline "
                               << patient_by_12);
  CHECK(flagged <= 3);  // of 5000 clients in 65 rounds
  CHECK(by_12 >= kSeeds * 7 / 10);
  CHECK(patient_by_12 >= kSeeds * 99 / 100);
}

TEST_CASE("straggler simulator: jitter alone flags nobody", "[methods][stragglers]") {
  std::size_t flagged = 0, clients = 0;
  for (std::uint64_t seed = 101; seed <= 120; ++seed) {
    const Outcome outcome = play({.rounds = 1000, .time = jitter(seed)});
    std::set<std::int64_t> peers;
    for (const auto& line : outcome.of("straggler")) peers.insert(line["peer"].get<std::int64_t>());
    flagged += peers.size();
    clients += 50;
    for (std::size_t i = 1; i < outcome.reports.size(); ++i) {
      CHECK(outcome.open_s(i) <= 1.6 * outcome.median_s());
    }
    CHECK(outcome.of("extend").empty());
  }
  WARN(flagged << " of " << clients << " clients flagged in 1000 rounds");
  CHECK(static_cast<double>(flagged) < 0.01 * static_cast<double>(clients));
}

TEST_CASE("a client that is always slower is chronic, and told once", "[methods][stragglers]") {
  const Time usual = jitter(5);
  const Outcome outcome =
      play({.rounds = 60, .deadline_s = 1000, .time = [&](PeerId id, std::int64_t round) {
              return usual(id, round) * (id == 3 ? 3 : 1);
            }});
  const auto chronic = outcome.of("straggler", "chronic");
  REQUIRE(chronic.size() == 1);
  CHECK(chronic[0]["peer"] == 3);
  CHECK(outcome.of("straggler", "slow").empty());  // it is what it always was
}

TEST_CASE("a round in which most are late is the server's fault", "[methods][stragglers]") {
  const Time usual = jitter(6);
  const Outcome outcome =
      play({.clients = 20, .rounds = 30, .time = [&](PeerId id, std::int64_t round) {
              return usual(id, round) * (round == 12 ? 2.5 : 1);
            }});
  const auto extended = outcome.of("extend");
  REQUIRE(extended.size() == 1);
  CHECK(extended[0]["round"] == 12);
  CHECK(outcome.reports[11].replied > 15);
  CHECK(outcome.of("straggler").empty());
}

TEST_CASE("more are asked when some do not answer", "[methods][stragglers]") {
  const auto unlucky = [](PeerId id, std::int64_t sends) {
    return Rng(9).stream("leaves", id, sends).uniform_double() < 0.3;
  };
  Setting setting{.clients = 60, .per_round = 20, .rounds = 80, .time = jitter(7)};
  setting.leaves = unlucky;
  setting.quorum = 0.3;
  const Outcome outcome = play(setting);
  double asked = 0, replied = 0;
  for (std::size_t i = 40; i < 80; ++i) {
    asked += static_cast<double>(outcome.reports[i].clients) / 40;
    replied += static_cast<double>(outcome.reports[i].replied) / 40;
  }
  CHECK(outcome.reports[0].clients == 20);
  CHECK(asked > 25);
  CHECK(asked < 36);
  CHECK(replied == Approx(20).margin(2.5));
}

TEST_CASE("what is known of the clients survives a checkpoint", "[methods][stragglers]") {
  const Time usual = jitter(8);
  const auto round = [&](std::int64_t number) {
    Stragglers::Round seen;
    seen.round = number;
    seen.whole = 110;
    seen.open = 104;
    for (PeerId id = 0; id < 12; ++id) {
      const double took = usual(id, number);
      if (id == 4 && number > 9) {
        seen.silent.push_back(id);
      } else if (id == 5 && number % 4 == 0) {
        seen.lost.push_back(id);
      } else {
        seen.answered.emplace(id, took);
      }
    }
    return seen;
  };
  Stragglers whole(true), first(true);
  const std::vector<PeerId> cohort = {0, 1, 2, 3, 4, 5};
  for (std::int64_t number = 1; number <= 30; ++number) {
    whole.close(round(number));
    if (number <= 11) first.close(round(number));
  }
  Stragglers second(true);
  second.load(first.save());
  CHECK(second.save() == first.save());
  for (std::int64_t number = 12; number <= 30; ++number) second.close(round(number));
  CHECK(second.save() == whole.save());
  CHECK(second.deadline_s(cohort) == whole.deadline_s(cohort));
  CHECK(second.to_ask(10) > 10);

  Message damaged = whole.save();
  damaged.tensors.at("clients").i64()[2] = -1;  // no time
  CHECK_THROWS_AS(second.load(damaged), WireError);
  damaged = whole.save();
  damaged.tensors.at("clients").shape[1] -= 1;
  damaged.tensors.at("clients").bytes.resize(8 *
                                             element_count(damaged.tensors.at("clients").shape));
  CHECK_THROWS_AS(second.load(damaged), WireError);
  CHECK_THROWS_AS(second.load(Message("other")), ProtocolError);
}
