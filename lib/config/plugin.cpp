#include "base/errors.hpp"
#include "config/config.hpp"
#include "config/detail/words.hpp"

namespace fedctl::config {
namespace {

class NumberSetter final : public Fields {
 public:
  explicit NumberSetter(std::map<std::string, double> values) : values_(std::move(values)) {}
  const std::map<std::string, double>& left() const { return values_; }

  void integer(std::string_view key, std::int64_t& value, Whole, std::string_view) override {
    take(key, [&](double number) { value = static_cast<std::int64_t>(number); });
  }
  void real(std::string_view key, double& value, Range, std::string_view) override {
    take(key, [&](double number) { value = number; });
  }
  void boolean(std::string_view key, bool& value, std::string_view) override {
    take(key, [&](double number) { value = number != 0; });
  }
  void text(std::string_view, std::string&, Text, std::string_view) override {}
  void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void section(std::string_view, Options&, std::string_view) override {}
  void plugin(std::string_view, Plugin&, const Kinds&, std::string_view) override {}
  void plugins(std::string_view, std::vector<Plugin>&, const Kinds&, std::size_t,
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

}  // namespace

Plugin make_plugin(const Kinds& kinds, std::string_view name) {
  for (const Kind& kind : kinds) {
    if (kind.name == name) return {kind.name, kind.make_options(), ""};
  }
  const std::vector<std::string> names = names_of(kinds);
  throw ConfigError("no kind \"" + shown(name) + "\", must be one of " + join(names),
                    did_you_mean(name, names));
}

Plugin make_plugin(const Kinds& kinds, std::string_view name,
                   const std::map<std::string, double>& numbers) {
  Plugin plugin = make_plugin(kinds, name);
  NumberSetter setter(numbers);
  plugin.options->fields(setter);
  if (!setter.left().empty()) {
    throw ConfigError(plugin.kind + " has no option \"" + setter.left().begin()->first + '"');
  }
  return plugin;
}

}  // namespace fedctl::config
