// text: language modelling on plain text. A file is one stream of tokens, cut into disjoint
// windows; an example is a window and the tokens that follow each of its positions. What is left at
// the end and shorter than a window is dropped. The text is encoded in pieces of whole lines, so
// that memory holds the tokens and one piece.
#include <algorithm>
#include <filesystem>

#include "base/errors.hpp"
#include "base/limits.hpp"
#include "data/detail/file.hpp"
#include "data/detail/table_bytes.hpp"
#include "data/registry.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::data {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{16} << 10;

struct TextOptions final : config::Options {
  std::string path, test, tokenizer;
  std::int64_t window = 128;
  void fields(config::Fields& fields) override {
    fields.text("path", path, {.kind = "a file or a folder", .required = true},
                "plain text in UTF-8, gzip or not; or a folder with train.txt and test.txt or "
                "valid.txt");
    fields.text("test", test, {.kind = "a file"}, "the text of the test part, elsewhere");
    fields.text("tokenizer", tokenizer, {.kind = "a file or a folder", .required = true},
                "tokenizer.json, vocab.txt, vocab.json with merges.txt, or llama2.c's");
    fields.integer("window", window, {2, 1 << 16}, "tokens in an example");
  }
};

class TextWindows final : public Dataset {
 public:
  TextWindows(std::vector<std::int32_t> tokens, std::size_t window,
              std::shared_ptr<const Tokenizer> tokenizer, DatasetInfo info)
      : tokens_(std::move(tokens)),
        window_(window),
        tokenizer_(std::move(tokenizer)),
        info_(std::move(info)) {}

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return tokens_.size() / window_; }
  std::int64_t label(std::size_t) const override { return 0; }
  std::size_t length(std::size_t) const override { return window_; }
  std::string field(std::size_t) const override { return ""; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }

  Batch gather(std::span<const std::size_t> indices) const override {
    std::vector<std::int64_t> tokens, labels;
    for (const std::size_t index : indices) {
      for (std::size_t at = index * window_; at < (index + 1) * window_; ++at) {
        tokens.push_back(tokens_[at]);
        labels.push_back(at + 1 < tokens_.size() ? tokens_[at + 1] : kIgnore);
      }
    }
    const std::vector<std::int64_t> lengths(indices.size(), static_cast<std::int64_t>(window_));
    const auto whole = [](const std::vector<std::int64_t>& values) {
      return Tensor::of(std::span<const std::int64_t>(values), {});
    };
    Batch batch;
    batch.emplace("tokens", whole(tokens));
    batch.emplace("lengths", whole(lengths));
    batch.emplace("labels", whole(labels));
    return batch;
  }

 private:
  std::vector<std::int32_t> tokens_;
  std::size_t window_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  DatasetInfo info_;
};

// Checks one line, which ends at a line feed or at the end of the file.
void check_line(std::string_view line, const std::string& path, std::size_t number) {
  const std::string place = path + ':' + std::to_string(number) + ": ";
  if (line.size() > limits::kJsonlLineBytesMax) {
    throw DataError(place + "longer than " + std::to_string(limits::kJsonlLineBytesMax) + " bytes",
                    "is it a text file?");
  }
  if (const std::string fault = text_fault(line); !fault.empty())
    throw DataError(place + fault, "texts are UTF-8");
}

std::vector<std::int32_t> read_tokens(const std::string& path, const Tokenizer& tokenizer) {
  const FileBytes bytes(path);
  std::string_view left = bytes.view();
  if (left.starts_with("\xef\xbb\xbf")) left.remove_prefix(3);
  std::vector<std::int32_t> tokens;
  for (std::size_t number = 1; !left.empty();) {
    std::size_t end = 0;
    while (end < left.size() && end < kPieceBytes) {
      const std::size_t feed = left.find('\n', end);
      const std::size_t next = feed == std::string_view::npos ? left.size() : feed + 1;
      check_line(left.substr(end, next - end), path, number++);
      end = next;
    }
    for (const std::int64_t token : tokenizer.encode(left.substr(0, end)))
      tokens.push_back(static_cast<std::int32_t>(token));
    left.remove_prefix(end);
  }
  return tokens;
}

std::unique_ptr<Dataset> open_part(const std::string& path, std::size_t window,
                                   std::shared_ptr<const Tokenizer> tokenizer, DatasetInfo info) {
  std::vector<std::int32_t> tokens = read_tokens(path, *tokenizer);
  if (tokens.size() < window) {
    throw DataError(path + ": " + std::to_string(tokens.size()) + " tokens, a window has " +
                        std::to_string(window),
                    "lower data.window");
  }
  return std::make_unique<TextWindows>(std::move(tokens), window, std::move(tokenizer),
                                       std::move(info));
}

Source open_text(const config::Options& given, const Rng&) {
  const auto& options = dynamic_cast<const TextOptions&>(given);
  std::string train = options.path, test = options.test;
  std::error_code error;
  if (std::filesystem::is_directory(options.path, error)) {
    train = find_in(options.path, {"train.txt", "train.txt.gz"});
    if (train.empty()) {
      throw DataError(options.path + ": no train.txt in it",
                      "data.path takes a text file, or a folder with train.txt");
    }
    if (test.empty()) {
      test = find_in(options.path, {"test.txt", "test.txt.gz", "valid.txt", "valid.txt.gz"});
    }
  }
  const std::shared_ptr<const Tokenizer> tokenizer = open_tokenizer(options.tokenizer);
  DatasetInfo info;
  info.task = Task::language;
  info.vocabulary = tokenizer->vocabulary();
  info.vocabulary_digest = tokenizer->digest();
  const auto window = static_cast<std::size_t>(options.window);
  Source source;
  source.train = open_part(train, window, tokenizer, info);
  source.test = test.empty() ? empty_dataset(info) : open_part(test, window, tokenizer, info);
  return source;
}

}  // namespace

DatasetEntry text();
DatasetEntry text() {
  return {{"text", "language modelling on plain text, cut into windows", "",
           [] { return std::make_unique<TextOptions>(); }},
          open_text};
}

}  // namespace fedctl::data
