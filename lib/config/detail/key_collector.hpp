// The keys of an options struct, without what is below them.
#pragma once

#include <set>
#include <string>

#include "config/fields.hpp"

namespace fedctl::config {

class KeyCollector final : public Fields {
 public:
  void integer(std::string_view key, std::int64_t&, Whole, std::string_view) override { add(key); }
  void real(std::string_view key, double&, Range, std::string_view) override { add(key); }
  void boolean(std::string_view key, bool&, std::string_view) override { add(key); }
  void text(std::string_view key, std::string&, Text, std::string_view) override { add(key); }
  void texts(std::string_view key, std::vector<std::string>&, std::string_view) override {
    add(key);
  }
  void section(std::string_view key, Options&, std::string_view) override { add(key); }
  void plugin(std::string_view key, Plugin&, const Kinds&, std::string_view) override { add(key); }
  void plugins(std::string_view key, std::vector<Plugin>&, const Kinds&, std::size_t,
               std::string_view) override {
    add(key);
  }
  const std::set<std::string>& keys() const { return keys_; }

 private:
  void add(std::string_view key) { keys_.emplace(key); }

  std::set<std::string> keys_;
};

inline std::set<std::string> keys_of(Options& options) {
  KeyCollector collector;
  options.fields(collector);
  return collector.keys();
}

}  // namespace fedctl::config
