// shakespeare: language modelling on speaking roles: JSON lines with "role" and "text". A role's
// text is cut into disjoint windows; an example is one window and the tokens that follow each of
// its positions. What is left at the end and shorter than a window is dropped.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 30;
constexpr std::int32_t kStart = 1;

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
      for (std::size_t at = 0; at + body_ <= roles_[role].tokens.size(); at += body_)
        places_.push_back({role, at});
    }
  }

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return places_.size(); }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t) const override { return window_; }
  std::string field(std::size_t index) const override { return roles_[places_[index].role].name; }

  Batch gather(std::span<const std::size_t> indices) const override {
    const auto count = static_cast<std::int64_t>(indices.size());
    const Shape shape{count * static_cast<std::int64_t>(window_)};
    Tensor tokens = Tensor::zeros(DType::i64, shape), labels = Tensor::zeros(DType::i64, shape);
    std::int64_t* in = tokens.i64().data();
    std::int64_t* out = labels.i64().data();
    for (const std::size_t index : indices) {
      const Place place = places_[index];
      const std::vector<std::int32_t>& text = roles_[place.role].tokens;
      if (start_token_) {
        *in++ = kStart;
        *out++ = text[place.at];
      }
      for (std::size_t at = place.at; at < place.at + body_; ++at) {
        *in++ = text[at];
        *out++ = at + 1 < text.size() ? text[at + 1] : kIgnore;
      }
    }
    Batch batch;
    batch.emplace("tokens", std::move(tokens));
    batch.emplace("labels", std::move(labels));
    const std::vector<std::int64_t> lengths(indices.size(), static_cast<std::int64_t>(window_));
    batch.emplace("lengths", Tensor::of(std::span(lengths), {}));
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

// One line's role. Nothing if its text is too short; throws DataError at `place` otherwise.
std::optional<Role> read_role(std::string_view line, const std::string& place,
                              const Tokenizer& tokenizer, std::int64_t min_chars) {
  if (line.size() > limits::kJsonlLineBytesMax) {
    throw DataError(place + "longer than " + std::to_string(limits::kJsonlLineBytesMax) + " bytes",
                    "one object a line, with role and text");
  }
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object())
    throw DataError(place + "not a JSON object", "one object a line, with role and text");
  for (const char* key : {"role", "text"}) {
    if (!json.contains(key) || !json[key].is_string()) {
      throw DataError(place + "no text under \"" + key + '"',
                      "one object a line, with role and text");
    }
  }
  Role role{json["role"], {}};
  if (role.name.empty() || role.name.size() > limits::kNameBytesMax) {
    throw DataError(place + "role of " + std::to_string(role.name.size()) +
                        " bytes, expected 1 to " + std::to_string(limits::kNameBytesMax),
                    "the role is the key of partition: {kind: by_field}");
  }
  const auto& text = json["text"].get_ref<const std::string&>();
  if (static_cast<std::int64_t>(text.size()) < min_chars) return std::nullopt;
  for (const std::int64_t token : tokenizer.encode(text))
    role.tokens.push_back(static_cast<std::int32_t>(token));
  return role;
}

std::vector<Role> read_roles(const ShakespeareOptions& options, const Tokenizer& tokenizer) {
  const std::vector<std::uint8_t> bytes = read_file(options.path, kFileBytesMax);
  std::string_view left(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::vector<Role> roles;
  for (std::size_t number = 1; !left.empty(); ++number) {
    const std::string_view line = left.substr(0, left.find('\n'));
    left.remove_prefix(std::min(left.size(), line.size() + 1));
    if (line.empty() || line == "\r") continue;
    const std::string place = options.path + ':' + std::to_string(number) + ": ";
    if (auto role = read_role(line, place, tokenizer, options.min_chars))
      roles.push_back(std::move(*role));
  }
  return roles;
}

Source open_shakespeare(const config::Options& given, const Rng&) {
  const auto& options = dynamic_cast<const ShakespeareOptions&>(given);
  const std::unique_ptr<Tokenizer> tokenizer =
      open_llama2c_tokenizer(options.tokenizer, options.vocabulary);
  std::vector<Role> roles = read_roles(options, *tokenizer);
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
