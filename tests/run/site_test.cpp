// The site file, and which of this machine's files a plan may have.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <set>

#include "config/paths.hpp"
#include "data/registry.hpp"
#include "run/site_paths.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;

// Every text that an experiment can have, with what it may be: the kinds of all plugins, too.
class Texts final : public config::Fields {
 public:
  std::map<std::string, config::Text> found;

  void integer(std::string_view, std::int64_t&, config::Whole, std::string_view) override {}
  void real(std::string_view, double&, config::Range, std::string_view) override {}
  void boolean(std::string_view, bool&, std::string_view) override {}
  void text(std::string_view key, std::string&, config::Text rule, std::string_view) override {
    found[prefix_ + std::string(key)] = rule;
  }
  void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void section(std::string_view key, config::Options& value, std::string_view) override {
    inside(std::string(key), value);
  }
  void plugin(std::string_view key, config::Plugin&, const config::Kinds& kinds,
              std::string_view) override {
    all(key, kinds);
  }
  void plugins(std::string_view key, std::vector<config::Plugin>&, const config::Kinds& kinds,
               std::size_t, std::string_view) override {
    all(key, kinds);
  }

 private:
  void all(std::string_view key, const config::Kinds& kinds) {
    if (prefix_.size() > 200) return;  // plugins in plugins of the same kinds
    for (const config::Kind& kind : kinds) {
      inside(std::string(key) + '/' + kind.name, *kind.make_options());
    }
  }
  void inside(const std::string& key, config::Options& options) {
    const std::string before = prefix_;
    prefix_ += key + '.';
    options.fields(*this);
    prefix_ = before;
  }

  std::string prefix_;
};

struct Folder {
  fs::path path = fs::temp_directory_path() / ("site-test-" + std::to_string(::getpid()));
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path / "shared/deep");
    fs::create_directories(path / "private");
    std::ofstream(path / "private/secret") << "x";
    fs::create_symlink(path / "private/secret", path / "shared/link");
    fs::create_symlink(path / "private", path / "way");
  }
  ~Folder() { fs::remove_all(path); }
  std::string at(const char* name) const { return (path / name).string(); }
};

}  // namespace

TEST_CASE("whoever adds a text to the experiment says whether it is a path") {
  Experiment experiment;
  Texts texts;
  experiment.fields(texts);
  REQUIRE(texts.found.size() > 100);
  const std::set<std::string> paths = {"a path", "a file", "a folder", "a file or a folder"};
  for (const auto& [key, rule] : texts.found) {
    INFO(key << " is \"" << rule.kind << '"');
    CHECK(config::names_path(rule) == (rule.one_of.empty() && paths.contains(rule.kind)));
  }
  for (const char* key : {"model/vit.path", "adapter/lora.path", "data/csv.path", "data/csv.test",
                          "data/csv.tokenizer", "data/glyphs.partition/file.path"}) {
    CHECK(config::names_path(texts.found.at(key)));
  }
}

TEST_CASE("paths are found at every depth, and can be changed there") {
  Experiment plan;
  plan.method = config::make_plugin(methods::method_kinds(), "meerkat");
  config::read(
      {"name: a\nmodel: {kind: vit, path: m}\n"
       "data: {kind: csv, path: d, features: ['0'], label: x, partition: {kind: file, path: p}}\n"
       "method: {kind: meerkat, public: [{kind: csv, path: q, features: ['0'], label: x}]}\n",
       "plan",
       {}},
      plan);
  std::map<std::string, std::string> found;
  std::vector<std::string> servers;
  config::visit_paths(plan, [&](const std::string& key, std::string& path, bool server_alone) {
    if (!path.empty()) {
      found[key] = path;
      if (server_alone) servers.push_back(key);
    }
    path = "other";
  });
  CHECK(servers == std::vector<std::string>{"method.public[0].path"});
  CHECK(found == std::map<std::string, std::string>{{"model.path", "m"},
                                                    {"data.path", "d"},
                                                    {"data.partition.path", "p"},
                                                    {"method.public[0].path", "q"}});
  CHECK(config::write(plan).find("path: other") != std::string::npos);
}

TEST_CASE("a client needs no leave for a file that the server alone opens") {
  Experiment plan;
  plan.method = config::make_plugin(methods::method_kinds(), "meerkat");
  config::read({"name: a\nmethod: {kind: meerkat, public: [{kind: csv, path: /q, features: ['0'], "
                "label: x}]}\n",
                "plan",
                {}},
               plan);
  use_site_files({}, AllowedPaths({}), plan);
  CHECK(config::write(plan).find("/q") == std::string::npos);
  plan.data = config::make_plugin(data::dataset_kinds(), "csv");
  config::visit_paths(plan, [](const std::string&, std::string& path, bool) { path = "/q"; });
  CHECK_THROWS_WITH(use_site_files({}, AllowedPaths({}), plan), Catch::Contains("/q"));
}

TEST_CASE("an allowed path holds what is in it, and nothing that a link or dots lead to") {
  const Folder folder;
  const AllowedPaths allowed({folder.at("shared"), folder.at("private/exact")});
  CHECK(allowed.hold(folder.at("shared")));
  CHECK(allowed.hold(folder.at("shared/")));
  CHECK(allowed.hold(folder.at("shared/deep/not-there")));
  CHECK(allowed.hold(folder.at("shared/deep/../x")));
  CHECK(allowed.hold(folder.at("private/exact")));
  CHECK_FALSE(allowed.hold(folder.at("private/exactly")));
  CHECK_FALSE(allowed.hold(folder.at("private/secret")));
  CHECK_FALSE(allowed.hold(folder.at("shared2")));
  CHECK_FALSE(allowed.hold(folder.at("shared/../private/secret")));
  CHECK_FALSE(allowed.hold(folder.at("shared/link")));
  CHECK_FALSE(allowed.hold(folder.at("way/secret")));
  CHECK_FALSE(allowed.hold("/"));
  CHECK_FALSE(AllowedPaths({}).hold(folder.at("shared")));
  CHECK(AllowedPaths({"/"}).hold(folder.at("private/secret")));
  // A site that names a link means what is behind it, by either name.
  const AllowedPaths linked({folder.at("way")});
  CHECK(linked.hold(folder.at("way/secret")));
  CHECK(linked.hold(folder.at("private/secret")));
}

TEST_CASE("a site file's paths are taken from its folder") {
  const Folder folder;
  std::ofstream(folder.path / "site.yaml")
      << "data: {path: a, test: /b}\ntokenizer: c\nmodel: {path: ../d}\ntls: {key: e}\n"
         "policy: {paths: [f, /g]}\n";
  const SiteOptions site = read_site(folder.at("site.yaml"));
  CHECK(site.data.path == folder.at("a"));
  CHECK(site.data.test == "/b");
  CHECK(site.tokenizer == folder.at("c"));
  CHECK(site.model.path == folder.at("../d"));
  CHECK(site.tls.files.key == folder.at("e"));
  CHECK(site.policy.paths == std::vector<std::string>{folder.at("f"), "/g"});
  CHECK(site.adapter.path.empty());
}

}  // namespace fedctl::run
