#include "journal/journal.hpp"

#include <sys/resource.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "journal/chain.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;
using journal::Event;
using journal::Journal;
using Json = nlohmann::ordered_json;

namespace {

const journal::Identity kServer{"quickstart", "server", std::nullopt};
std::int64_t at_seven() { return 7; }

// A path of its own for each test case, below the build folder.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::string(FEDCTL_BINARY_DIR) + "/journal_test_" + name + ".jsonl") {
    std::filesystem::remove(path_);
    std::filesystem::remove(journal::chain_path(path_));
  }
  ~TemporaryFile() {
    std::filesystem::remove(path_);
    std::filesystem::remove(journal::chain_path(path_));
  }
  const std::string& path() const { return path_; }
  std::string text() const {
    std::ifstream in(path_, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  void put(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }

 private:
  std::string path_;
};

std::string line_of(const Event& event) {
  return Journal("", kServer, at_seven).format(std::nullopt, event);
}

const std::string kHead = R"({"t_ms":7,"run":"quickstart","role":"server","peer":null,)";

}  // namespace

TEST_CASE("every line begins with the same keys, then the fields as set", "[journal]") {
  Journal journal("", kServer, at_seven);
  journal::Object up;
  up.set("payload", std::size_t{3}).set("framing", 1);
  journal::Object bytes;
  bytes.set("up", up);
  const Event event = Event("round")
                          .set("zeta", 1)
                          .set("alpha", true)
                          .set("note", "a \"b\"\n\xc3\xa9")
                          .set("none", nullptr)
                          .set("bytes", bytes);
  CHECK(journal.write(3, event) ==
        kHead + R"("round":3,"event":"round","zeta":1,"alpha":true,"note":"a \"b\"\né",)" +
            R"("none":null,"bytes":{"up":{"payload":3,"framing":1}}})");
}

TEST_CASE("a line about a client names it, else the journal's own peer", "[journal]") {
  const Journal journal("", {"r", "client", 4}, at_seven);
  CHECK_THAT(journal.format({}, Event("join")), Contains(R"("peer":4,"round":null)"));
  CHECK_THAT(journal.format({}, Event("join").about(9)), Contains(R"("peer":9,"round":null)"));
}

TEST_CASE("reals read back as the same number in few digits", "[journal]") {
  const double value = GENERATE(0.1, 1.0, -2.5, 1e-300, 1.7976931348623157e308, 5e-324, 1.0 / 3,
                                0.91, 123456789.125);
  const Json json = Json::parse(line_of(Event("x").set("value", value)));
  CHECK(json["value"].get<double>() == value);
  CHECK_THAT(line_of(Event("x").set("value", 0.91)), Contains(R"("value":0.91})"));
}

TEST_CASE("integers of 64 bits keep every digit", "[journal]") {
  const std::string line = line_of(Event("x")
                                       .set("most", std::numeric_limits<std::uint64_t>::max())
                                       .set("least", std::numeric_limits<std::int64_t>::min()));
  CHECK_THAT(line, Contains(R"("most":18446744073709551615,"least":-9223372036854775808})"));
}

TEST_CASE("a number that is not finite is null with a flag beside it", "[journal]") {
  const double infinity = std::numeric_limits<double>::infinity();
  journal::Object inner;
  inner.set("deep", -infinity);
  const std::string line =
      line_of(Event("x").set("loss", std::nan("")).set("top", infinity).set("in", inner));
  CHECK_THAT(line, Contains(R"("loss":null,"loss_nonfinite":"nan",)"
                            R"("top":null,"top_nonfinite":"inf",)"
                            R"("in":{"deep":null,"deep_nonfinite":"-inf"}})"));
}

TEST_CASE("a line that is too long has its texts cut", "[journal]") {
  const std::size_t max = limits::kJournalLineBytesMax;
  // Two bytes a letter on the wire, six as an escape, so that the first cut is not enough.
  const auto letter = GENERATE(as<std::string>{}, "é", "\x01", "x");
  std::string text;
  while (text.size() < 2 * max) text += letter;
  const std::string line =
      line_of(Event("reject").set("reason", text).set("other", text).set("count", 5));
  CHECK(line.size() <= max);
  const Json json = Json::parse(line);  // throws if a letter was cut in two
  CHECK(json["count"] == 5);
  const std::string reason = json["reason"];
  CHECK(reason.size() > 1000);
  CHECK(reason.ends_with("..."));
  CHECK(text.starts_with(reason.substr(0, reason.size() - 3)));
}

TEST_CASE("bytes that are not UTF-8 do not break the line", "[journal]") {
  const Json json = Json::parse(line_of(Event("reject").set("reason", "a\xff\xc3")));
  CHECK(json["reason"] == "a\xef\xbf\xbd\xef\xbf\xbd");
}

TEST_CASE("lines are appended to what is there", "[journal][file]") {
  const TemporaryFile file("append");
  std::string first, second;
  {
    Journal journal(file.path(), kServer, at_seven);
    first = journal.write({}, Event("start"));
    CHECK(file.text() == first + '\n');  // without closing
    journal.sync();
  }
  {
    Journal journal(file.path(), kServer, at_seven);
    second = journal.write(1, Event("round"));
  }
  CHECK(file.text() == first + '\n' + second + '\n');
  CHECK(journal::read_lines(file.path()) == std::vector<std::string>{first, second});
  CHECK(journal::last_round(file.path()) == 1);
}

TEST_CASE("a torn last line is cut off before anything is appended", "[journal][file]") {
  const TemporaryFile file("torn");
  const std::string whole = kHead + R"("round":2,"event":"round"})" + '\n';
  const std::string before = GENERATE_COPY(as<std::string>{}, std::string(), whole, whole + whole);
  const std::size_t torn_bytes = GENERATE(as<std::size_t>{}, 0, 1, 65'535, 65'536, 65'537, 200'000);
  file.put(before + std::string(torn_bytes, '{'));
  std::string line;
  {
    Journal journal(file.path(), kServer, at_seven);
    CHECK(file.text() == before);
    line = journal.write({}, Event("resume"));
  }
  CHECK(file.text() == before + line + '\n');
}

TEST_CASE("a line that is still being written is not read", "[journal][file]") {
  const TemporaryFile file("growing");
  const std::string whole = kHead + R"("round":2,"event":"round"})";
  file.put(whole + '\n' + whole.substr(0, 20));
  CHECK(journal::read_lines(file.path()) == std::vector<std::string>{whole});
  file.put(whole + '\n' + whole);  // even if it looks complete
  CHECK(journal::read_lines(file.path()).size() == 1);
  CHECK(journal::last_round(file.path()) == 2);
}

TEST_CASE("a damaged line is named", "[journal][file]") {
  const TemporaryFile file("damaged");
  const auto bad = GENERATE(as<std::string>{}, "{\"a\":", "", "[]", "3", "{\"event\":1}", "{}",
                            "{\"event\":\"x\"} {}");
  file.put(kHead + R"("round":2,"event":"round"})" + '\n' + bad + "\n{\"event\":\"end\"}\n");
  CHECK_THROWS_AS(journal::read_lines(file.path()), RunDirectoryError);
  CHECK_THROWS_WITH(journal::read_lines(file.path()),
                    Contains(file.path() + ":2: not a journal line"));
  CHECK_THROWS_AS(journal::last_round(file.path()), RunDirectoryError);
}

TEST_CASE("without a file there is no last round, and nothing to read", "[journal][file]") {
  const TemporaryFile file("absent");
  CHECK_FALSE(journal::last_round(file.path()).has_value());
  CHECK_THROWS_WITH(journal::read_lines(file.path()), Contains("no such journal"));
  file.put(kHead + R"("round":null,"event":"start"})" + '\n');
  CHECK_FALSE(journal::last_round(file.path()).has_value());
}

TEST_CASE("a file that cannot be opened is an error of the run directory", "[journal][file]") {
  const std::string path = std::string(FEDCTL_BINARY_DIR) + "/no/such/folder/journal.jsonl";
  CHECK_THROWS_AS(Journal(path, kServer, at_seven), RunDirectoryError);
  CHECK_THROWS_WITH(Journal(path, kServer, at_seven), Contains(path + ": cannot open"));
}

TEST_CASE("a line that does not fit on the disk leaves nothing behind", "[journal][file]") {
  const TemporaryFile file("full");
  Journal journal(file.path(), kServer, at_seven);
  const std::string first = journal.write({}, Event("start"));

  // The limit on the size of files stands for the full disk: it, too, takes a part of the line and
  // then fails.
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = first.size() + 20;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
  std::string message;
  try {
    journal.write(1, Event("round"));
  } catch (const RunDirectoryError& error) {
    message = error.what();
  }
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, ignored);

  CHECK_THAT(message, Contains("cannot write"));
  CHECK(file.text() == first + '\n');
  const std::string second = journal.write(1, Event("round"));
  CHECK(file.text() == first + '\n' + second + '\n');
}

TEST_CASE("lines of many threads do not mix", "[journal][threads]") {
  constexpr std::int64_t kThreads = 4, kLines = 200;
  const TemporaryFile file("threads");
  {
    Journal journal(file.path(), kServer, at_seven);
    std::vector<std::thread> threads;
    for (std::int64_t peer = 0; peer < kThreads; ++peer) {
      threads.emplace_back([&journal, peer] {
        const std::string text(static_cast<std::size_t>(1 + peer * 300), 'x');
        for (std::int64_t round = 0; round < kLines; ++round) {
          journal.write(round, Event("client").about(peer).set("text", text));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<std::int64_t> next(kThreads, 0);
  for (const std::string& line : journal::read_lines(file.path())) {
    const Json json = Json::parse(line);
    const auto peer = json["peer"].get<std::size_t>();
    CHECK(json["round"] == next.at(peer)++);
  }
  CHECK(next == std::vector<std::int64_t>(kThreads, kLines));
}

TEST_CASE("the examples of docs/journal.md are journal lines", "[journal][docs]") {
  std::ifstream in(std::string(FEDCTL_SOURCE_DIR) + "/docs/journal.md");
  REQUIRE(in.is_open());
  const std::vector<std::string> head = {"t_ms", "run", "role", "peer", "round", "event"};
  std::vector<std::string> events;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with('{')) continue;
    CAPTURE(line);
    const Json json = Json::parse(line);
    std::vector<std::string> keys;
    for (const auto& [key, value] : json.items()) keys.push_back(key);
    REQUIRE(keys.size() >= head.size());
    keys.resize(head.size());
    CHECK(keys == head);
    events.push_back(json["event"]);
  }
  for (const char* event : {"start", "round", "client", "join", "leave", "refuse", "late", "reject",
                            "checkpoint", "resume", "end"}) {
    CAPTURE(event);
    CHECK(std::ranges::find(events, event) != events.end());
  }
}

TEST_CASE("the chain finds lines that were edited, and goes on after a crash", "[journal][chain]") {
  const TemporaryFile file("chain");
  {
    Journal journal(file.path(), kServer, at_seven);
    for (int round = 0; round < 5; ++round) journal.write(round, Event("round"));
  }
  CHECK(journal::verify_chain(file.path()).size() == 5);
  // Killed behind a line and before its hash, or within the hash.
  const std::string chain = journal::chain_path(file.path());
  for (const std::uintmax_t lost : {65, 1, 64}) {
    std::filesystem::resize_file(chain, std::filesystem::file_size(chain) - lost);
    CHECK(journal::verify_chain(file.path()).size() == 5);
    Journal(file.path(), kServer, at_seven);
    CHECK(std::filesystem::file_size(chain) == 5 * 65);
  }
  std::filesystem::resize_file(chain, 3 * 65);
  CHECK_THROWS_WITH(journal::verify_chain(file.path()), Catch::Contains(":4: was not written"));
  Journal(file.path(), kServer, at_seven);
  std::string text = file.text();
  text[text.find("\"round\":2")] = '\'';
  file.put(text);
  CHECK_THROWS_WITH(journal::verify_chain(file.path()), Catch::Contains(":3: is not the line"));
  CHECK_THROWS_AS(Journal(file.path(), kServer, at_seven), RunDirectoryError);
}
