#include <algorithm>
#include <cctype>

#include "config/config.hpp"
#include "config/detail/words.hpp"

namespace fedctl::config {
namespace {

// Whether YAML reads the bare word back as this text, in every version of YAML and in the eyes of
// people: letters, digits and _-./ from a letter on, no truth value, no null, nothing a number
// could look like.
bool is_plain(const std::string& text) {
  static const std::vector<std::string> kTaken = {"true", "false", "yes", "no",  "on", "off",
                                                  "null", "y",     "n",   "nan", "inf"};
  const auto first = static_cast<unsigned char>(text.empty() ? ' ' : text.front());
  if (std::isalpha(first) == 0) return false;
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::ranges::find(kTaken, lower) == kTaken.end() &&
         std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.' || c == '/';
         });
}

std::string quoted(const std::string& text) { return is_plain(text) ? text : in_quotes(text); }

class Writer final : public Fields {
 public:
  explicit Writer(std::string indent) : indent_(std::move(indent)) {}
  std::string take() { return std::move(out_); }

  void integer(std::string_view key, std::int64_t& value, Whole, std::string_view) override {
    line(key, std::to_string(value));
  }
  void real(std::string_view key, double& value, Range range, std::string_view) override {
    line(key, real_text(value, range));
  }
  void boolean(std::string_view key, bool& value, std::string_view) override {
    line(key, value ? "true" : "false");
  }
  void text(std::string_view key, std::string& value, Text, std::string_view) override {
    line(key, quoted(value));
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    std::vector<std::string> words;
    for (const std::string& word : value) words.push_back(quoted(word));
    line(key, '[' + join(words) + ']');
  }
  void section(std::string_view key, Options& value, std::string_view) override {
    const std::string body = body_of(value, indent_ + "  ");
    if (body.empty()) {
      line(key, "{}");
    } else {
      out_ += indent_ + std::string(key) + ":\n" + body;
    }
  }
  void plugin(std::string_view key, Plugin& value, const Kinds&, std::string_view) override {
    if (!value.options) return;  // required, and not read yet
    out_ += indent_ + std::string(key) + ":\n" + indent_ + "  kind: " + quoted(value.kind) + '\n' +
            body_of(*value.options, indent_ + "  ");
  }
  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds&, std::size_t,
               std::string_view) override {
    if (value.empty()) {
      line(key, "[]");
      return;
    }
    out_ += indent_ + std::string(key) + ":\n";
    for (Plugin& item : value) {
      out_ += indent_ + "  - kind: " + quoted(item.kind) + '\n' +
              body_of(*item.options, indent_ + "    ");
    }
  }

 private:
  static std::string body_of(Options& options, const std::string& indent) {
    Writer inner(indent);
    options.fields(inner);
    return inner.take();
  }
  void line(std::string_view key, const std::string& value) {
    out_ += indent_ + std::string(key) + ": " + value + '\n';
  }

  std::string indent_;
  std::string out_;
};

}  // namespace

std::string write(Options& root) {
  Writer writer("");
  root.fields(writer);
  return writer.take();
}

}  // namespace fedctl::config
