// Any bytes, read as an experiment, are refused with ConfigError or give options whose effective
// file reads back to the same bytes. Behind a line "===" each line is an override, key.path=value.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/errors.hpp"
#include "config/test_options.hpp"

using namespace fedctl;

namespace {

config::Source source_of(const std::string& input) {
  static const std::string kRule = "\n===\n";
  const std::size_t rule = input.find(kRule);
  config::Source source{input.substr(0, rule), "f", {}};
  if (rule == std::string::npos) return source;
  for (std::size_t at = rule + kRule.size(); at < input.size();) {
    const std::size_t end = std::min(input.find('\n', at), input.size());
    source.overrides.push_back(config::parse_override(input.substr(at, end - at)));
    at = end + 1;
  }
  return source;
}

std::string effective(const config::Source& source, test::Root& root) {
  config::read(source, root);
  return config::write(root);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string input(data, data + size);
  test::Root root, again;
  std::string text;
  try {
    const config::Source source = source_of(input);
    config::places(source);
    text = effective(source, root);
    config::explain(source, root);
  } catch (const ConfigError&) {
    return 0;
  }
  // Our own file: a ConfigError from here on is a fault, and ends the process.
  if (effective({text, "effective", {}}, again) != text) std::abort();
  return 0;
}
