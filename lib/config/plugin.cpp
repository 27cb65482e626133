#include "base/errors.hpp"
#include "config/config.hpp"

namespace fedctl::config {

std::vector<std::string> names_of(const Kinds& kinds) {
  std::vector<std::string> names;
  for (const Kind& kind : kinds) names.push_back(kind.name);
  return names;
}

Plugin make_plugin(const Kinds& kinds, std::string_view name) {
  for (const Kind& kind : kinds) {
    if (kind.name == name) return {kind.name, kind.make_options(), ""};
  }
  std::string known;
  for (const Kind& kind : kinds) known += (known.empty() ? "" : ", ") + kind.name;
  const std::string near = nearest(name, names_of(kinds));
  throw ConfigError("no kind \"" + std::string(name) + "\"; there are " + known,
                    near.empty() ? "" : "did you mean " + near + '?');
}

}  // namespace fedctl::config
