// shakespeare: language modelling on speaking roles: JSON lines with "role" and "text". A role's
// text is cut into disjoint windows; an example is one window and the tokens that follow each of
// its positions.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 30;
constexpr std::int32_t kStart = 1;
// Roles are tokenised a speech at a time: merging is quadratic in a text's length.
constexpr std::size_t kSpeechBytesMax = 2000;

struct ShakespeareOptions final : config::Options {
  std::string path, tokenizer;
  std::int64_t vocabulary = 512, window = 128, min_chars = 5000;
  bool start_token = false;
  void fields(config::Fields& fields) override {
    fields.text("path", path, {.kind = "a file", .required = true},
                "JSON lines with role and text");
    fields.text("tokenizer", tokenizer, {.kind = "a file", .required = true},
                "llama2.c tokenizer file");
    fields.integer("vocabulary", vocabulary,
                   {259, static_cast<std::int64_t>(limits::kVocabularyMax)}, "tokens in it");
    fields.integer("window", window, {2, 1 << 16}, "tokens in an example");
    fields.integer("min_chars", min_chars, {0, 1 << 30}, "roles with less text are left out");
    fields.boolean("start_token", start_token, "begin each window with the start token");
  }
};

struct Role {
  std::string name;
  std::vector<std::int32_t> tokens;
};

class Windows final : public Dataset {
 public:
  Windows(std::vector<Role> roles, std::size_t window, bool start_token, DatasetInfo info)
      : roles_(std::move(roles)),
        window_(window),
        body_(window - (start_token ? 1 : 0)),
        start_token_(start_token),
        info_(std::move(info)) {
    for (std::size_t role = 0; role < roles_.size(); ++role) {
      // A window needs the token after it as its last label.
      for (std::size_t at = 0; at + body_ + 1 <= roles_[role].tokens.size(); at += body_)
        places_.push_back({role, at});
    }
  }

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return places_.size(); }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t) const override { return window_; }
  std::string field(std::size_t index) const override { return roles_[places_[index].role].name; }

  Batch gather(std::span<const std::size_t> indices) const override {
    const Shape shape{static_cast<std::int64_t>(indices.size()),
                      static_cast<std::int64_t>(window_)};
    Tensor tokens = Tensor::zeros(DType::i64, shape), labels = Tensor::zeros(DType::i64, shape);
    std::int64_t* in = tokens.i64().data();
    std::int64_t* out = labels.i64().data();
    for (const std::size_t index : indices) {
      const Place place = places_[index];
      const std::int32_t* text = roles_[place.role].tokens.data() + place.at;
      if (start_token_) {
        *in++ = kStart;
        *out++ = text[0];
      }
      for (std::size_t i = 0; i < body_; ++i) {
        *in++ = text[i];
        *out++ = text[i + 1];
      }
    }
    Batch batch;
    batch.emplace("tokens", std::move(tokens));
    batch.emplace("labels", std::move(labels));
    return batch;
  }

 private:
  struct Place {
    std::size_t role, at;
  };
  std::vector<Role> roles_;
  std::size_t window_, body_;
  bool start_token_;
  DatasetInfo info_;
  std::vector<Place> places_;
};

std::vector<std::int32_t> tokens_of(const std::string& text, const Tokenizer& tokenizer) {
  std::vector<std::int32_t> tokens;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(text.size(), at + kSpeechBytesMax);
    const std::size_t line = text.rfind('\n', end - 1);
    if (end < text.size() && line != std::string::npos && line > at) end = line + 1;
    for (const std::int64_t token : tokenizer.encode(std::string_view(text).substr(at, end - at))) {
      tokens.push_back(static_cast<std::int32_t>(token));
    }
    at = end;
  }
  return tokens;
}

Source open_shakespeare(const config::Options& given, const Rng&) {
  const auto& options = dynamic_cast<const ShakespeareOptions&>(given);
  const std::unique_ptr<Tokenizer> tokenizer =
      open_llama2c_tokenizer(options.tokenizer, options.vocabulary);
  const std::vector<std::uint8_t> bytes = read_file(options.path, kFileBytesMax);
  std::istringstream in(std::string(bytes.begin(), bytes.end()));
  std::vector<Role> roles;
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    const std::string place = options.path + ':' + std::to_string(number) + ": ";
    if (line.empty()) continue;
    if (line.size() > limits::kJsonlLineBytesMax)
      throw DataError(place + "longer than " + std::to_string(limits::kJsonlLineBytesMax) +
                      " bytes");
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object())
      throw DataError(place + "not a JSON object", "one object a line, with role and text");
    for (const char* key : {"role", "text"}) {
      if (!json.contains(key) || !json[key].is_string())
        throw DataError(place + "no text under \"" + key + '"');
    }
    const auto text = json["text"].get<std::string>();
    if (static_cast<std::int64_t>(text.size()) < options.min_chars) continue;
    roles.push_back({json["role"], tokens_of(text, *tokenizer)});
  }
  DatasetInfo info;
  info.task = Task::language;
  info.vocabulary = options.vocabulary;
  info.vocabulary_digest = tokenizer->digest();
  Source source;
  source.train = std::make_unique<Windows>(
      std::move(roles), static_cast<std::size_t>(options.window), options.start_token, info);
  if (source.train->size() == 0) {
    throw DataError(options.path + ": no role has " + std::to_string(options.min_chars) +
                        " characters and a whole window",
                    "lower data.min_chars or data.window");
  }
  source.test = empty_dataset(info);
  return source;
}

}  // namespace

DatasetEntry shakespeare();
DatasetEntry shakespeare() {
  return {
      {"shakespeare", "language modelling by speaking role, JSON lines and a llama2.c tokenizer",
       "", [] { return std::make_unique<ShakespeareOptions>(); }},
      open_shakespeare};
}

}  // namespace fedctl::data
