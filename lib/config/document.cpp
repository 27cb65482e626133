#include "config/document.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <optional>
#include <set>
#include <sstream>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "config/detail/characters.hpp"
#include "config/detail/words.hpp"

namespace fedctl::config {
namespace {

constexpr std::size_t kNodesMax = 20'000;  // of one text
constexpr std::size_t kKeyBytesMax = 128;

// Stands behind every text, as a comment: yaml-cpp takes the end of the text for a closing quote if
// it comes right after the end of a line.
constexpr std::string_view kEnd = "\n#";

std::string place_of(const YAML::Mark& mark, const Origin& origin) {
  if (mark.is_null()) return origin.name;
  return origin.at(static_cast<std::size_t>(mark.line) + 1,
                   static_cast<std::size_t>(mark.column) + 1);
}

// Builds the tree from the parser's events, so that its size and depth are bounded while it grows:
// an exception from here stops the parser before it recurses. Anchors, aliases and tags are
// refused; no experiment needs them, and they are how small files become large trees.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(const Origin& origin) : origin_(origin) {}

  Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(mark, "", anchor, Node::Type::null));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(place(mark), "aliases are not allowed", "write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = make(mark, tag, anchor, Node::Type::scalar);
    if (!is_text(value)) {
      fail(node.place, "an escape makes a character that is not allowed",
           "no control characters; a hard space is \\u00a0");
    }
    node.scalar = value;
    node.quoted = tag == "!";
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(mark, tag, anchor, Node::Type::list));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(mark, tag, anchor, Node::Type::map));
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    std::optional<Node> key = {};      // read, its value not yet
    std::set<std::string> known = {};  // every key so far
  };

  std::string place(const YAML::Mark& mark) const { return place_of(mark, origin_); }
  Node make(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            Node::Type type) {
    if (anchor != 0) fail(place(mark), "anchors are not allowed", "write the value out");
    // "?" is plain, "!" is quoted.
    if (!tag.empty() && tag != "?" && tag != "!") fail(place(mark), "tags are not allowed");
    if (++nodes_ > kNodesMax) {
      fail(place(mark), "more than " + std::to_string(kNodesMax) + " values");
    }
    return {type, place(mark)};
  }
  void open(Node node) {
    if (open_.size() >= limits::kYamlDepthMax) {
      fail(node.place, "nested deeper than " + std::to_string(limits::kYamlDepthMax) + " levels");
    }
    open_.push_back({std::move(node)});
  }
  void close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }
  void add(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else if (open_.back().node.type == Node::Type::list) {
      open_.back().node.children.push_back(std::move(node));
    } else if (!open_.back().key) {
      add_key(std::move(node));
    } else {
      node.key = open_.back().key->scalar;
      node.key_place = open_.back().key->place;
      // The parser sees that there is no value only at the next key.
      if (node.type == Node::Type::null) node.place = node.key_place;
      open_.back().node.children.push_back(std::move(node));
      open_.back().key.reset();
    }
  }
  void add_key(Node node) {
    Open& parent = open_.back();
    if (node.type != Node::Type::scalar) fail(node.place, "a key must be a word");
    if (node.scalar.size() > kKeyBytesMax) {
      fail(node.place, "a key of " + std::to_string(node.scalar.size()) +
                           " bytes, must be at most " + std::to_string(kKeyBytesMax));
    }
    if (!parent.known.insert(node.scalar).second) {
      fail(node.place,
           join_key(path(), shown(node.scalar)) + " appears twice, first at " +
               parent.node.find(node.scalar)->key_place,
           "remove one of the two");
    }
    parent.key = std::move(node);
  }
  // The dotted key of the innermost open map.
  std::string path() const {
    std::string path;
    for (std::size_t i = 0; i + 1 < open_.size(); ++i) {
      const Open& level = open_[i];
      if (level.node.type == Node::Type::list) {
        path = join_index(path, level.node.children.size());
      } else {
        // Without a key, what is inside is itself a key, refused as soon as it is closed.
        path = join_key(path, level.key ? shown(level.key->scalar) : "?");
      }
    }
    return path;
  }

  const Origin& origin_;
  Node root_;
  std::vector<Open> open_;
  std::size_t nodes_ = 0;
};

// Stops at the second document, whatever is in it.
class NoMore final : public YAML::EventHandler {
 public:
  explicit NoMore(const Origin& origin) : origin_(origin) {}
  void OnDocumentStart(const YAML::Mark& mark) override {
    fail(place_of(mark, origin_), "a second document", "keep one experiment a file, without ---");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  const Origin& origin_;
};

std::string hint_for(const std::string& message) {
  if (message.find("EOF in scalar") != std::string::npos) return "a quote is not closed";
  if (message.find("flow") != std::string::npos) return "a [ or { is not closed";
  return "a value that holds \": \" or begins with one of [{&*!|>'\"%@ needs quotes";
}

}  // namespace

void fail(const std::string& place, const std::string& what, const std::string& hint) {
  throw ConfigError(place.empty() ? what : place + ": " + what, hint);
}

std::string Origin::at(std::size_t line, std::size_t column) const {
  return numbered ? name + ':' + std::to_string(line) + ':' + std::to_string(column) : name;
}

const Node* Node::find(std::string_view child_key) const {
  for (const Node& child : children) {
    if (child.key == child_key) return &child;
  }
  return nullptr;
}

Node* Node::find(std::string_view child_key) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(child_key));
}

Node parse(std::string_view text, const Origin& origin) {
  check_characters(text, origin);
  std::istringstream in(std::string(text) + std::string(kEnd));
  Builder builder(origin);
  try {
    YAML::Parser parser(in);
    if (parser.HandleNextDocument(builder)) {
      NoMore rest(origin);
      parser.HandleNextDocument(rest);
    }
  } catch (const YAML::Exception& error) {
    fail(place_of(error.mark, origin), "not YAML: " + error.msg, hint_for(error.msg));
  }
  return builder.take();
}

}  // namespace fedctl::config
