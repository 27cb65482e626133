// Rows as tokens. A row becomes tokens when it is first needed; those of tables of up to 256 MiB
// are kept, those of larger ones are made anew each time.
//
//   classify            frame(text, text_pair), cut to `longest`
//   continue (no label) begin, text, end; every token but the first is learned
//   answer              frame(prompt), response, end; response and end are learned. Where that is
//                       too long the prompt loses its front, but keeps half of `longest`; then the
//                       response loses its end.
#include <algorithm>
#include <mutex>

#include "base/errors.hpp"
#include "data/detail/table_datasets.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kKeptBytesMax = std::uint64_t{256} << 20;
constexpr std::size_t kUncut = std::size_t{1} << 40;

struct Example {
  std::vector<std::int32_t> tokens;
  // Tokens of the first text, or of the prompt.
  std::size_t first = 0;
};

std::vector<std::int32_t> narrow(const std::vector<std::int64_t>& tokens) {
  std::vector<std::int32_t> narrowed;
  narrowed.reserve(tokens.size());
  for (const std::int64_t token : tokens) narrowed.push_back(static_cast<std::int32_t>(token));
  return narrowed;
}

class TextTable final : public Dataset {
 public:
  TextTable(TableTexts texts, TableRows rows, DatasetInfo info)
      : texts_(std::move(texts)), rows_(std::move(rows)), info_(std::move(info)) {
    if (rows_.bytes() > kKeptBytesMax) return;
    kept_.resize(rows_.size());
    made_ = std::make_unique<std::once_flag[]>(rows_.size());
  }

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return rows_.size(); }
  std::int64_t label(std::size_t index) const override { return rows_.label(index); }
  std::size_t length(std::size_t index) const override { return example(index).tokens.size(); }
  std::string field(std::size_t index) const override { return rows_.owner(index); }
  const Tokenizer* tokenizer() const override { return texts_.tokenizer.get(); }

  Batch gather(std::span<const std::size_t> indices) const override {
    const bool classify = texts_.plan.mode == TablePlan::Mode::classify_text;
    const bool pairs = texts_.plan.text_pair != kNoColumn;
    std::vector<std::int64_t> tokens, lengths, segments, labels;
    for (const std::size_t index : indices) {
      const Example one = example(index);
      tokens.insert(tokens.end(), one.tokens.begin(), one.tokens.end());
      lengths.push_back(static_cast<std::int64_t>(one.tokens.size()));
      if (classify) {
        labels.push_back(rows_.label(index));
        if (!pairs) continue;
        segments.resize(segments.size() + one.first, 0);
        segments.resize(tokens.size(), 1);
      } else {
        for (std::size_t next = 1; next < one.tokens.size(); ++next)
          labels.push_back(next >= one.first ? one.tokens[next] : kIgnore);
        labels.push_back(kIgnore);
      }
    }
    const auto whole = [](const std::vector<std::int64_t>& values) {
      return Tensor::of(std::span<const std::int64_t>(values), {});
    };
    Batch batch;
    batch.emplace("tokens", whole(tokens));
    batch.emplace("lengths", whole(lengths));
    batch.emplace("labels", whole(labels));
    if (pairs) batch.emplace("segments", whole(segments));
    return batch;
  }

  std::optional<Exchange> exchange(std::size_t index) const override {
    if (texts_.plan.mode != TablePlan::Mode::answer) return std::nullopt;
    Record record;
    rows_.read(index, record);
    const Example one = answered(record);
    Exchange exchange;
    exchange.prompt.assign(one.tokens.begin(),
                           one.tokens.begin() + static_cast<std::ptrdiff_t>(one.first));
    exchange.answer = answer_in(record.cells[texts_.plan.response], texts_.answer_after);
    exchange.answer_after = texts_.answer_after;
    return exchange;
  }

 private:
  Example example(std::size_t index) const {
    if (kept_.empty()) return make(index);
    std::call_once(made_[index], [&] { kept_[index] = make(index); });
    return kept_[index];
  }

  Example make(std::size_t index) const {
    Record record;
    rows_.read(index, record);
    Example made = texts_.plan.mode == TablePlan::Mode::classify_text   ? classified(record)
                   : texts_.plan.mode == TablePlan::Mode::continue_text ? continued(record)
                                                                        : answered(record);
    if (made.tokens.empty()) {
      throw DataError(rows_.place(index) + "a text that has no token",
                      "is data.tokenizer the one that was meant?");
    }
    return made;
  }

  Example classified(const Record& record) const {
    std::optional<std::string_view> second;
    if (texts_.plan.text_pair != kNoColumn) second = record.cells[texts_.plan.text_pair];
    const Encoded encoded =
        texts_.tokenizer->frame(record.cells[texts_.plan.text], second, texts_.longest);
    return {narrow(encoded.tokens),
            static_cast<std::size_t>(std::ranges::count(encoded.segments, 0))};
  }

  Example continued(const Record& record) const {
    const Tokenizer& tokenizer = *texts_.tokenizer;
    Example made;
    if (tokenizer.begin() >= 0) made.tokens.push_back(static_cast<std::int32_t>(tokenizer.begin()));
    const std::vector<std::int32_t> text = narrow(tokenizer.encode(record.cells[texts_.plan.text]));
    made.tokens.insert(made.tokens.end(), text.begin(), text.end());
    if (tokenizer.end() >= 0) made.tokens.push_back(static_cast<std::int32_t>(tokenizer.end()));
    if (made.tokens.size() > texts_.longest) made.tokens.resize(texts_.longest);
    return made;
  }

  Example answered(const Record& record) const {
    const Tokenizer& tokenizer = *texts_.tokenizer;
    std::vector<std::int64_t> prompt =
        tokenizer.frame(texts_.plan.prompt.fill(record.cells), std::nullopt, kUncut).tokens;
    std::vector<std::int64_t> response = tokenizer.encode(record.cells[texts_.plan.response]);
    if (tokenizer.end() >= 0) response.push_back(tokenizer.end());
    const std::size_t longest = texts_.longest;
    const std::size_t room = std::max(longest / 2, longest - std::min(longest, response.size()));
    if (prompt.size() > room) {
      const std::ptrdiff_t front = tokenizer.begin() >= 0 ? 1 : 0;
      prompt.erase(prompt.begin() + front,
                   prompt.begin() + front + static_cast<std::ptrdiff_t>(prompt.size() - room));
    }
    if (prompt.size() + response.size() > longest) response.resize(longest - prompt.size());
    Example made{narrow(prompt), prompt.size()};
    const std::vector<std::int32_t> rest = narrow(response);
    made.tokens.insert(made.tokens.end(), rest.begin(), rest.end());
    return made;
  }

  TableTexts texts_;
  TableRows rows_;
  DatasetInfo info_;
  mutable std::vector<Example> kept_;
  mutable std::unique_ptr<std::once_flag[]> made_;
};

}  // namespace

std::unique_ptr<Dataset> text_table(TableTexts texts, TableRows rows, DatasetInfo info) {
  return std::make_unique<TextTable>(std::move(texts), std::move(rows), std::move(info));
}

}  // namespace fedctl::data
