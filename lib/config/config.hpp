// The readers behind Fields. yaml-cpp stays in the .cpp files.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/fields.hpp"

namespace fedctl::config {

// Where the text came from, and what overrides it.
struct Source {
  std::string text;  // YAML, at most limits::kYamlBytesMax
  std::string name;  // the file's path, for places: "configs/a.yaml:12:9"
  // ("train.optimizer.lr", "0.1"), applied in order after the file, as strictly as it; the place of
  // a value given so is "--set train.optimizer.lr=0.1". List items by index: "codec.up.0.bits"; the
  // index behind the last one appends. An empty value is the empty text.
  std::vector<std::pair<std::string, std::string>> overrides;
};

// Reads a file. Throws ConfigError if it cannot be opened or is too large.
Source read_source(const std::string& path);

// Splits "key.path=value". Throws ConfigError naming the argument if there is no '='.
std::pair<std::string, std::string> parse_override(const std::string& argument);

// FEDCTL_SERVER__LISTEN=... -> ("server.listen", ...): names with a double underscore, which nests;
// lower-cased; sorted. FEDCTL_DATA and other names without one are not overrides.
std::vector<std::pair<std::string, std::string>> environment_overrides(char** environment);

// Fills `root`, which holds the defaults, from the source. Throws ConfigError for bad YAML
// (duplicate keys, anchors, tags, depth beyond limits::kYamlDepthMax, several documents), an
// unknown key (with the nearest known one), a wrong type, a value out of range, an unknown kind
// (with the nearest). The message begins with "file:line:column: ", of the value or of the unknown
// key, and the full dotted key: `configs/a.yaml:12:9: codec.up[0].ratio is 1.7, must be in (0, 1]`.
// After an error `root` is partly filled.
void read(const Source& source, Options& root);

// Where each key stood: "train.batch_size" -> "configs/a.yaml:7:10". For errors that need two keys.
// Keys that were not written are absent. Same keys as the messages of read().
std::map<std::string, std::string> places(const Source& source);

// The effective file: every key, in the order of fields(), defaults included. Reading it back gives
// an equal `root`; two equal roots give equal bytes (reals in their shortest round-trip form).
std::string write(Options& root);

// One line a key, in columns: dotted key, effective value, "(default)", "(file)" or "(--set)",
// range, meaning, in the order of fields(). `root` has been read from `source`.
std::string explain(const Source& source, Options& root);
// The same, with the default where another value is in force: "(file, default 16)". `defaults` is a
// root that nothing was read into.
std::string explain(const Source& source, Options& root, Options& defaults);

// Every key and its effective value, as explain() shows them.
std::map<std::string, std::string> values(Options& root);

// JSON Schema (draft 2020-12) of the file, pretty-printed; `root` holds the defaults.
std::string schema(Options& root, const std::string& title);

// The known name nearest to `word` (Damerau-Levenshtein), or "" if none is near (distance > max(2,
// length/3)).
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace fedctl::config
