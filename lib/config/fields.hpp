// How an options struct says what may stand in the experiment file. One function per struct,
//
//   void TopkOptions::fields(Fields& f) {
//     f.real("ratio", ratio, {.above = 0, .max = 1}, "share of the entries that are kept");
//   }
//
// serves every reader: the strict YAML reader (which sets the members and refuses what is unknown),
// the writer of the effective file, `check --explain`, and the generator of the JSON Schema.
// Members hold their defaults when fields() is called.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fedctl::config {

struct Whole {  // legal range of an integer, both ends included
  std::int64_t min = std::numeric_limits<std::int64_t>::min();
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
};
struct Range {  // legal range of a real; `above`/`below` exclude their end, `min`/`max` include it
  std::optional<double> above = {}, min = {}, below = {}, max = {};
  std::string zero = {};  // a word that may stand instead of a number, kept as 0
};
// What a text may be; `pattern` is a name for people ("a path", "host:port").
struct Text {
  std::vector<std::string> one_of = {};
  std::string kind = {};
  bool required = false;
};

class Fields;

// Options of one plugin or section. Polymorphic, so that a plugin's own file can define them.
struct Options {
  virtual ~Options() = default;
  virtual void fields(Fields& fields) = 0;
};

// A kind a plugin key may name: `summary` is one line, `paper` its source ("" if none).
struct Kind {
  std::string name;
  std::string summary;
  std::string paper;
  std::function<std::unique_ptr<Options>()> make_options;
};
using Kinds = std::vector<Kind>;

// The value of a plugin key: {kind: topk, ratio: 0.01}. `place` is where it stood ("file:line:col",
// or empty), for errors found after reading.
struct Plugin {
  std::string kind;
  std::shared_ptr<Options> options;
  std::string place;

  template <class T>
  const T& as() const {
    return dynamic_cast<const T&>(*options);
  }
};
// The plugin with its default options. Throws ConfigError if there is no such kind.
Plugin make_plugin(const Kinds& kinds, std::string_view kind);
// The same with some numbers and switches (0 or 1) by key; ranges are not checked. Throws
// ConfigError on a key that there is not.
Plugin make_plugin(const Kinds& kinds, std::string_view kind,
                   const std::map<std::string, double>& numbers);

// The visitor. `key` is the YAML key, `meaning` one line for people, with the unit.
class Fields {
 public:
  virtual ~Fields() = default;

  virtual void integer(std::string_view key, std::int64_t& value, Whole range,
                       std::string_view meaning) = 0;
  virtual void real(std::string_view key, double& value, Range range, std::string_view meaning) = 0;
  virtual void boolean(std::string_view key, bool& value, std::string_view meaning) = 0;
  virtual void text(std::string_view key, std::string& value, Text rule,
                    std::string_view meaning) = 0;
  virtual void texts(std::string_view key, std::vector<std::string>& value,
                     std::string_view meaning) = 0;
  // A nested map.
  virtual void section(std::string_view key, Options& value, std::string_view meaning) = 0;
  // A nested map with a `kind`. When the key is absent the value keeps its default plugin; a
  // default with an empty kind means the key is required.
  virtual void plugin(std::string_view key, Plugin& value, const Kinds& kinds,
                      std::string_view meaning) = 0;
  // A list of such maps, at most `count_max` long.
  virtual void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds& kinds,
                       std::size_t count_max, std::string_view meaning) = 0;
  // The same, of files that the server alone opens.
  virtual void plugins_of_server(std::string_view key, std::vector<Plugin>& value,
                                 const Kinds& kinds, std::size_t count_max,
                                 std::string_view meaning) {
    plugins(key, value, kinds, count_max, meaning);
  }
};

}  // namespace fedctl::config
