#include "config/paths.hpp"

#include <algorithm>

namespace fedctl::config {
namespace {

// What a text may be that opens nothing.
constexpr const char* kHarmless[] = {"a column",  "a column or a template",
                                     "a key",     "a text",
                                     "a class",   "a tensor",
                                     "a pattern", "[a-z0-9-]",
                                     "HOST:PORT"};

class PathVisitor final : public Fields {
 public:
  PathVisitor(std::string prefix, bool server_alone, const PathVisit& visit)
      : prefix_(std::move(prefix)), server_alone_(server_alone), visit_(visit) {}

  void integer(std::string_view, std::int64_t&, Whole, std::string_view) override {}
  void real(std::string_view, double&, Range, std::string_view) override {}
  void boolean(std::string_view, bool&, std::string_view) override {}
  void text(std::string_view key, std::string& value, Text rule, std::string_view) override {
    if (names_path(rule)) visit_(prefix_ + std::string(key), value, server_alone_);
  }
  void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void section(std::string_view key, Options& value, std::string_view) override {
    inside(std::string(key), value);
  }
  void plugin(std::string_view key, Plugin& value, const Kinds&, std::string_view) override {
    if (value.options) inside(std::string(key), *value.options);
  }
  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds&, std::size_t,
               std::string_view) override {
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (!value[i].options) continue;
      inside(std::string(key) + '[' + std::to_string(i) + ']', *value[i].options);
    }
  }
  void plugins_of_server(std::string_view key, std::vector<Plugin>& value, const Kinds& kinds,
                         std::size_t count_max, std::string_view meaning) override {
    PathVisitor(prefix_, true, visit_).plugins(key, value, kinds, count_max, meaning);
  }

 private:
  void inside(const std::string& key, Options& options) {
    PathVisitor below(prefix_ + key + '.', server_alone_, visit_);
    options.fields(below);
  }

  std::string prefix_;
  bool server_alone_;
  const PathVisit& visit_;
};

}  // namespace

bool names_path(const Text& rule) {
  return rule.one_of.empty() && std::ranges::find(kHarmless, rule.kind) == std::end(kHarmless);
}

void visit_paths(Options& root, const PathVisit& visit) {
  PathVisitor visitor("", false, visit);
  root.fields(visitor);
}

}  // namespace fedctl::config
