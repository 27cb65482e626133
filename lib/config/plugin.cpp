#include "base/errors.hpp"
#include "config/config.hpp"
#include "config/detail/words.hpp"

namespace fedctl::config {

Plugin make_plugin(const Kinds& kinds, std::string_view name) {
  for (const Kind& kind : kinds) {
    if (kind.name == name) return {kind.name, kind.make_options(), ""};
  }
  const std::vector<std::string> names = names_of(kinds);
  throw ConfigError("no kind \"" + shown(name) + "\", must be one of " + join(names),
                    did_you_mean(name, names));
}

}  // namespace fedctl::config
