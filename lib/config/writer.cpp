#include <algorithm>
#include <cctype>

#include "base/limits.hpp"
#include "config/config.hpp"
#include "config/detail/ranges.hpp"

namespace fedctl::config {
namespace {

bool is_plain(const std::string& text) {
  if (text.empty() || text == "true" || text == "false" || text == "null" || text == "~") return false;
  const bool word = std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.' || c == '/';
  });
  return word && std::isalpha(static_cast<unsigned char>(text.front())) != 0;
}

std::string quoted(const std::string& text) {
  if (is_plain(text)) return text;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

class Writer final : public Fields {
 public:
  explicit Writer(std::string indent) : indent_(std::move(indent)) {}
  std::string take() { return std::move(out_); }

  void integer(std::string_view key, std::int64_t& value, Whole, std::string_view) override {
    line(key, std::to_string(value));
  }
  void real(std::string_view key, double& value, Range, std::string_view) override { line(key, real_text(value)); }
  void boolean(std::string_view key, bool& value, std::string_view) override { line(key, value ? "true" : "false"); }
  void text(std::string_view key, std::string& value, Text, std::string_view) override { line(key, quoted(value)); }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    std::string list;
    for (const std::string& word : value) list += (list.empty() ? "" : ", ") + quoted(word);
    line(key, '[' + list + ']');
  }
  void section(std::string_view key, Options& value, std::string_view) override {
    Writer inner(indent_ + "  ");
    value.fields(inner);
    const std::string body = inner.take();
    if (body.empty()) {
      line(key, "{}");
    } else {
      out_ += indent_ + std::string(key) + ":\n" + body;
    }
  }
  void plugin(std::string_view key, Plugin& value, const Kinds&, std::string_view) override {
    out_ += indent_ + std::string(key) + ":\n" + indent_ + "  kind: " + quoted(value.kind) + '\n';
    Writer inner(indent_ + "  ");
    value.options->fields(inner);
    out_ += inner.take();
  }
  void plugins(std::string_view key, std::vector<Plugin>& value, const Kinds&, std::size_t, std::string_view) override {
    if (value.empty()) {
      line(key, "[]");
      return;
    }
    out_ += indent_ + std::string(key) + ":\n";
    for (Plugin& item : value) {
      out_ += indent_ + "  - kind: " + quoted(item.kind) + '\n';
      Writer inner(indent_ + "    ");
      item.options->fields(inner);
      out_ += inner.take();
    }
  }

 private:
  void line(std::string_view key, const std::string& value) { out_ += indent_ + std::string(key) + ": " + value + '\n'; }

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
