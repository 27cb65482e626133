#include "learn/generate.hpp"

#include <algorithm>
#include <limits>

#include "base/assert.hpp"
#include "data/tokenizer.hpp"

namespace fedctl::learn {
namespace {

using Tokens = std::vector<std::int64_t>;

// A pass makes logits for all of its tokens: 400 MB with the vocabulary of GPT-2.
constexpr std::size_t kTokensAtOnce = 2048;

Tensor tensor_of(const Tokens& tokens) { return Tensor::of(std::span(tokens), {}); }

// The likeliest next token of each text.
Tokens next_tokens(Learner& learner, std::span<const Tokens* const> texts) {
  Tokens packed, lengths;
  for (const Tokens* text : texts) {
    packed.insert(packed.end(), text->begin(), text->end());
    lengths.push_back(static_cast<std::int64_t>(text->size()));
  }
  const Tensor logits =
      learner.logits({{"tokens", tensor_of(packed)}, {"lengths", tensor_of(lengths)}});
  const std::size_t vocabulary = logits.f32().size() / packed.size();
  Tokens next;
  std::size_t row = 0;
  for (const Tokens* text : texts) {
    row += text->size();
    const auto last = logits.f32().subspan((row - 1) * vocabulary, vocabulary);
    next.push_back(std::ranges::max_element(last) - last.begin());
  }
  return next;
}

// Adds to `next` the next tokens of as many of the texts as fit a pass.
void advance(Learner& learner, std::span<Tokens* const> open, Tokens& next) {
  std::vector<const Tokens*> together;
  std::size_t tokens = 0;
  for (const Tokens* text : open) {
    tokens += text->size();
    if (!together.empty() && tokens > kTokensAtOnce) break;
    together.push_back(text);
  }
  const Tokens found = next_tokens(learner, together);
  next.insert(next.end(), found.begin(), found.end());
}

}  // namespace

std::vector<Tokens> generate(Learner& learner, std::vector<Tokens> prompts, std::int64_t end,
                             std::int64_t longest) {
  std::vector<std::size_t> starts;
  std::vector<Tokens*> open;
  const auto has_room = [&](const Tokens& text, std::size_t start) {
    return static_cast<std::int64_t>(text.size() - start) < longest &&
           static_cast<std::int64_t>(text.size()) < learner.context();
  };
  for (Tokens& prompt : prompts) {
    FEDCTL_ASSERT(!prompt.empty());
    starts.push_back(prompt.size());
    if (has_room(prompt, prompt.size())) open.push_back(&prompt);
  }
  while (!open.empty()) {
    Tokens next;
    while (next.size() < open.size()) advance(learner, std::span(open).subspan(next.size()), next);
    std::vector<Tokens*> still;
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (next[i] == end) continue;
      open[i]->push_back(next[i]);
      const std::size_t start = starts[static_cast<std::size_t>(open[i] - prompts.data())];
      if (has_room(*open[i], start)) still.push_back(open[i]);
    }
    open = std::move(still);
  }
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    Tokens& text = prompts[i];
    text.erase(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(starts[i]));
  }
  return prompts;
}

double exact_match(LearnerPool& pool, std::span<const float> weights, const data::Dataset& data,
                   std::span<const std::size_t> indices, const ExactMatchOptions& options) {
  const data::Tokenizer* tokenizer = data.tokenizer();
  FEDCTL_ASSERT(tokenizer != nullptr);
  const auto wanted = static_cast<std::size_t>(options.examples);
  if (wanted > 0 && wanted < indices.size()) indices = indices.first(wanted);
  std::vector<data::Exchange> exchanges;
  std::vector<Tokens> prompts;
  for (const std::size_t index : indices) {
    std::optional<data::Exchange> exchange = data.exchange(index);
    if (!exchange || exchange->prompt.empty()) continue;
    prompts.push_back(exchange->prompt);
    exchanges.push_back(std::move(*exchange));
  }
  if (exchanges.empty()) return std::numeric_limits<double>::quiet_NaN();
  LearnerPool::Lease learner = pool.acquire();
  std::ranges::copy(weights, learner->weights().begin());
  const std::vector<Tokens> answers =
      generate(*learner, std::move(prompts), tokenizer->end(), options.longest);
  std::size_t right = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const std::string text = tokenizer->decode(answers[i]);
    if (data::answer_in(text, exchanges[i].answer_after) == exchanges[i].answer) ++right;
  }
  return static_cast<double>(right) / static_cast<double>(answers.size());
}

}  // namespace fedctl::learn
