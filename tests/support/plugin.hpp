// Plugins with options for tests, without YAML: plugin(codec_kinds(), "topk", {{"ratio", 0.1}}).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/errors.hpp"
#include "config/fields.hpp"

namespace fedctl::test {

// Sets the numbers and switches (0 or 1) of an options struct by key, unchecked.
class NumberSetter final : public config::Fields {
 public:
  explicit NumberSetter(std::map<std::string, double> values) : values_(std::move(values)) {}
  // Throws ConfigError if a key was not asked for.
  void finish() const {
    if (!values_.empty()) throw ConfigError("no option \"" + values_.begin()->first + "\"");
  }

  void integer(std::string_view key, std::int64_t& value, config::Whole,
               std::string_view) override {
    take(key, [&](double number) { value = static_cast<std::int64_t>(number); });
  }
  void real(std::string_view key, double& value, config::Range, std::string_view) override {
    take(key, [&](double number) { value = number; });
  }
  void boolean(std::string_view key, bool& value, std::string_view) override {
    take(key, [&](double number) { value = number != 0; });
  }
  void text(std::string_view, std::string&, config::Text, std::string_view) override {}
  void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void section(std::string_view, config::Options&, std::string_view) override {}
  void plugin(std::string_view, config::Plugin&, const config::Kinds&, std::string_view) override {}
  void plugins(std::string_view, std::vector<config::Plugin>&, const config::Kinds&, std::size_t,
               std::string_view) override {}

 private:
  template <class Set>
  void take(std::string_view key, const Set& set) {
    const auto found = values_.find(std::string(key));
    if (found == values_.end()) return;
    set(found->second);
    values_.erase(found);
  }

  std::map<std::string, double> values_;  // not yet set
};

inline config::Plugin plugin(const config::Kinds& kinds, std::string_view name,
                             std::map<std::string, double> values = {}) {
  for (const config::Kind& kind : kinds) {
    if (kind.name != name) continue;
    config::Plugin made{kind.name, kind.make_options(), ""};
    NumberSetter setter(std::move(values));
    made.options->fields(setter);
    setter.finish();
    return made;
  }
  throw ConfigError("no kind \"" + std::string(name) + "\"");
}

}  // namespace fedctl::test
