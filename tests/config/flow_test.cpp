#include <catch2/catch.hpp>
#include <string>

#include "config/document.hpp"

using namespace fedctl::config;

namespace {

bool equal(const Node& a, const Node& b) {
  if (a.type != b.type || a.key != b.key || a.scalar != b.scalar) return false;
  if (a.children.size() != b.children.size()) return false;
  for (std::size_t i = 0; i < a.children.size(); ++i) {
    if (!equal(a.children[i], b.children[i])) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a node on one line reads back as the same values", "[config][property]") {
  const std::string text =
      GENERATE("12", "\"12\"", "-1.5e-3", "a b, c", "[1, [], {}]", "{kind: topk, ratio: 0.1}",
               "- x: {y: \"q\\\"\\\\\\t\"}\n  z:\n- ~\n- 'a: b'\n- \"\"\n",
               "a: |\n  two\n  lines\n", "\"-\"", "- \"#\"\n- ä\n");
  const Node node = parse(text, {"t"});
  const std::string flow = flow_text(node);
  INFO(flow);
  CHECK(flow.find('\n') == std::string::npos);
  CHECK(equal(parse(flow, {"t"}), node));
}

TEST_CASE("what was quoted stays a text", "[config]") {
  CHECK(flow_text(parse("[12, \"12\", x]", {"t"})) == "[12, \"12\", x]");
}
