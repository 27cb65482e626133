#include "data/detail/table_plan.hpp"

#include <algorithm>

#include "base/errors.hpp"

namespace fedctl::data {
namespace {

std::size_t want(TablePlan& plan, const std::string& name, bool may_lack = false) {
  const auto found = std::ranges::find(plan.wanted, name, &WantedColumn::name);
  const auto at = static_cast<std::size_t>(found - plan.wanted.begin());
  if (found == plan.wanted.end()) {
    plan.wanted.push_back({name, may_lack});
  } else {
    found->may_lack = found->may_lack && may_lack;
  }
  return at;
}

std::size_t want_if_named(TablePlan& plan, const std::string& name) {
  return name.empty() ? kNoColumn : want(plan, name);
}

Template plan_prompt(TablePlan& plan, const std::string& prompt) {
  if (prompt.find('{') == std::string::npos) return Template({{"", want(plan, prompt)}});
  std::vector<Template::Piece> pieces(1);
  for (std::size_t at = 0; at < prompt.size(); ++at) {
    const char letter = prompt[at];
    if ((letter == '{' || letter == '}') && prompt.substr(at + 1, 1) == std::string(1, letter)) {
      pieces.back().before += letter;
      ++at;
    } else if (letter == '{') {
      const std::size_t end = prompt.find('}', at);
      if (end == std::string::npos || end == at + 1) {
        throw ConfigError("data.prompt: \"" + prompt.substr(at, 40) + "\" is no column in braces",
                          "\"{question}\\n\" puts in column question; {{ is a brace itself");
      }
      pieces.back().column = want(plan, prompt.substr(at + 1, end - at - 1), true);
      pieces.emplace_back();
      at = end;
    } else {
      pieces.back().before += letter;
    }
  }
  return Template(std::move(pieces));
}

void plan_features(TablePlan& plan, const TableOptions& options,
                   const std::vector<std::string>& columns) {
  std::vector<std::string> names = options.features;
  const bool all = names == std::vector<std::string>{"*"};
  if (all) names = columns;
  for (const std::string& name : names) {
    const bool dropped = std::ranges::find(options.drop, name) != options.drop.end();
    const bool meant = name != options.label && name != options.client && !dropped;
    if (!meant && !all) {
      throw ConfigError("data.features names \"" + name + "\", which is also data." +
                            (dropped                 ? "drop"
                             : name == options.label ? "label"
                                                     : "client"),
                        "a column has one meaning");
    }
    if (meant) plan.features.push_back(want(plan, name));
  }
  if (plan.features.empty()) {
    throw DataError(options.path + ": no column is left for data.features",
                    "data.label, data.client and data.drop take columns away");
  }
}

}  // namespace

void check_table(const TableOptions& options) {
  const bool features = !options.features.empty();
  if (options.prompt.empty() != options.response.empty()) {
    throw ConfigError(options.prompt.empty() ? "data.response is given without data.prompt"
                                             : "data.prompt is given without data.response",
                      "a language model learns response behind prompt; for text alone, name "
                      "data.text and set data.label to \"\"");
  }
  if (features && !options.prompt.empty())
    throw ConfigError("data.features and data.prompt are both given", "take one of them");
  if (!features && options.tokenizer.empty()) {
    throw ConfigError("data.tokenizer is required where data.text or data.prompt is used",
                      "a folder or file: tokenizer.json, vocab.txt, or vocab.json with merges.txt");
  }
  if (!features && options.prompt.empty() && options.text.empty())
    throw ConfigError("data.text, data.prompt and data.features are all empty", "name one of them");
  if (!options.other.empty() && options.classes.empty())
    throw ConfigError("data.other is given without data.classes",
                      "it names the class of the labels that data.classes leaves out");
  std::vector<std::string> sorted = options.classes;
  sorted.push_back(options.other);
  std::ranges::sort(sorted);
  if (const auto twice = std::ranges::adjacent_find(sorted); twice != sorted.end())
    throw ConfigError("data.classes names \"" + *twice + "\" twice", "each class once");
}

void TableOptions::fields(config::Fields& fields) {
  fields.text("path", path, {.kind = "a file or a folder", .required = true},
              "the table; or the folder with train.* and test.*, or with client_*.*, gzip or not");
  fields.text("test", test, {.kind = "a file"}, "the table of the test part, elsewhere");
  if (format == TableFormat::jsonl) {
    fields.text("split", split, {.kind = "a key"},
                "a JSON document: key of its list for training; empty = it is the list");
    fields.text("test_split", test_split, {.kind = "a key"}, "key of its list for testing");
  } else {
    fields.boolean("header", header, "line 1 names the columns; otherwise they are 0, 1, 2, ...");
  }
  fields.text("tokenizer", tokenizer, {.kind = "a file or a folder"},
              "of the texts: tokenizer.json, vocab.txt, vocab.json with merges.txt, or llama2.c's");
  fields.text("text", text, {.kind = "a column"}, "what is read");
  fields.text("text_pair", text_pair, {.kind = "a column"}, "second text, read with the first");
  fields.text("label", label, {.kind = "a column"},
              "the class; empty = no classes: a language model of the text");
  fields.text("prompt", prompt, {.kind = "a column or a template"},
              "what is asked: a column, or \"{column}...\"; given but not learned");
  fields.text("response", response, {.kind = "a column"}, "what is answered, and learned");
  fields.text("answer_after", answer_after, {.kind = "a text"},
              "exact match compares what stands behind the last of these in a response");
  fields.text("client", client, {.kind = "a column"}, "who owns the row, for partition by_field");
  fields.texts("features", features, "columns of numbers or words; [\"*\"] = every other column");
  fields.texts("drop", drop, "columns that \"*\" leaves out");
  fields.text("scale", scale, {.one_of = {"none", "standard", "signed_log"}},
              "of numbers among the features: by the training part's mean and deviation");
  fields.texts("classes", classes, "the labels there are, in order; empty = those found, sorted");
  fields.text("other", other, {.kind = "a class"}, "the class of labels not in classes");
  fields.integer("longest", longest, {8, 1 << 16}, "most tokens in an example; more are cut");
  fields.text("on_error", on_error, {.one_of = {"stop", "skip"}},
              "a row that cannot be used stops the run, or is left out and counted");
}

std::string Template::fill(const std::vector<std::string>& cells) const {
  std::string text;
  for (const Piece& piece : pieces_) {
    text += piece.before;
    if (piece.column != kNoColumn) text += cells[piece.column];
  }
  return text;
}

TablePlan plan_table(const TableOptions& options, const std::vector<std::string>& columns) {
  check_table(options);
  TablePlan plan;
  plan.client = want_if_named(plan, options.client);
  if (!options.prompt.empty()) {
    plan.mode = TablePlan::Mode::answer;
    plan.prompt = plan_prompt(plan, options.prompt);
    plan.response = want(plan, options.response);
    return plan;
  }
  plan.label = want_if_named(plan, options.label);
  if (!options.features.empty()) {
    plan.mode = TablePlan::Mode::classify_features;
    plan_features(plan, options, columns);
    return plan;
  }
  plan.mode =
      options.label.empty() ? TablePlan::Mode::continue_text : TablePlan::Mode::classify_text;
  plan.text = want(plan, options.text);
  if (plan.mode == TablePlan::Mode::classify_text)
    plan.text_pair = want_if_named(plan, options.text_pair);
  return plan;
}

}  // namespace fedctl::data
