// phrases: short requests from a grammar, made on the spot. Twenty-four intents in six domains, in
// two styles; a client is a domain and a style ("music casual"), so it sees a sixth of the intents
// and half of the ways to put them. For classification (the intent) or language modelling (the next
// word). The test set holds combinations of words that no training phrase has.
#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include "base/digest.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

struct Intent {
  const char* name;
  const char* pattern;  // <slot> is drawn; alternatives by |
};
struct Domain {
  const char* name;
  std::array<Intent, 4> intents;
};

constexpr std::array<Domain, 6> kDomains = {{
    {"music",
     {{{"play", "play|start <mood> music by <person>"},
       {"pause", "pause|stop the <mood> song"},
       {"volume", "turn the music up|down by <number>"},
       {"rate", "rate|mark this song with <number> stars"}}}},
    {"weather",
     {{{"rain", "will it rain|snow in <city> <day>"},
       {"heat", "how warm|cold is <city> <day>"},
       {"wind", "tell me the wind in <city> <day>"},
       {"sun", "when does the sun rise|set in <city>"}}}},
    {"bank",
     {{{"send", "send|pay <number> coins to <person>"},
       {"balance", "show my balance for <day>"},
       {"block", "block|freeze my card from <day>"},
       {"loan", "ask for a loan of <number> coins"}}}},
    {"travel",
     {{{"book", "book|reserve a seat to <city> <day>"},
       {"cancel", "cancel|drop my trip to <city>"},
       {"delay", "is the train to <city> late <day>"},
       {"hotel", "find a room|bed in <city> for <number> nights"}}}},
    {"home",
     {{{"light", "switch the light in the <room> on|off"},
       {"warm", "set the <room> to <number> degrees"},
       {"clean", "clean|sweep the <room> <day>"},
       {"lock", "lock|open the door of the <room>"}}}},
    {"calendar",
     {{{"add", "add|put lunch with <person> on <day>"},
       {"move", "move the call with <person> to <day>"},
       {"remind", "remind me of <person> in <number> hours"},
       {"list", "what is|comes next on <day>"}}}},
}};
// A combination is held out if the positions of its choices sum to a multiple of this. Every intent
// has a slot of at least five values, so each has combinations of both sorts, and every word of it
// occurs in training (tests/data/phrases_test.cpp).
constexpr std::size_t kHeldOutOneIn = 5;

constexpr std::array<const char*, 2> kStyles = {"polite", "casual"};
constexpr std::array<std::array<const char*, 3>, 2> kOpenings = {
    {{"could you please", "would you kindly", "i would like you to"}, {"hey", "yo", "quick"}}};
constexpr std::array<std::array<const char*, 3>, 2> kClosings = {
    {{"thank you", "if you may", "at your leisure"}, {"now", "ok", "asap"}}};

const std::map<std::string, std::vector<std::string>>& slots() {
  static const std::map<std::string, std::vector<std::string>> kSlots = {
      {"<mood>", {"calm", "loud", "happy", "sad", "slow"}},
      {"<person>", {"anna", "bela", "chen", "dora", "emil", "fatima", "george"}},
      {"<number>", {"two", "three", "four", "five", "seven", "nine"}},
      {"<city>", {"paris", "oslo", "lima", "cairo", "delhi", "quito", "tokyo"}},
      {"<day>", {"today", "tomorrow", "monday", "friday", "sunday"}},
      {"<room>", {"kitchen", "hall", "garage", "attic", "study"}},
  };
  return kSlots;
}

struct PhrasesOptions final : config::Options {
  std::string task = "classify";
  std::int64_t per_client = 60, test_per_client = 20;
  void fields(config::Fields& fields) override {
    fields.text("task", task, {.one_of = {"classify", "language"}},
                "tell the intent, or predict the next word");
    fields.integer("per_client", per_client, {1, 100'000},
                   "training phrases of each of the twelve clients");
    fields.integer("test_per_client", test_per_client, {0, 100'000}, "test phrases of each");
  }
};

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::vector<std::string> alternatives(const std::string& word) {
  std::vector<std::string> all;
  std::istringstream in(word);
  for (std::string one; std::getline(in, one, '|');) all.push_back(one);
  return all;
}

// Every word the grammar can say, in a fixed order; 0 pads nothing, 1 starts a phrase, 2 ends it.
std::map<std::string, std::int32_t> make_vocabulary() {
  std::map<std::string, std::int32_t> vocabulary;
  const auto add = [&](const std::string& text) {
    for (const std::string& word : words_of(text)) {
      for (const std::string& one : alternatives(word)) {
        if (!one.starts_with('<')) vocabulary.emplace(one, 0);
      }
    }
  };
  for (const Domain& domain : kDomains) {
    for (const Intent& intent : domain.intents) add(intent.pattern);
  }
  for (const auto& [slot, values] : slots()) {
    for (const std::string& value : values) add(value);
  }
  for (std::size_t style = 0; style < kStyles.size(); ++style) {
    for (const char* text : kOpenings[style]) add(text);
    for (const char* text : kClosings[style]) add(text);
  }
  std::int32_t next = 3;
  for (auto& [word, token] : vocabulary) token = next++;
  return vocabulary;
}

struct Phrase {
  std::vector<std::int32_t> tokens;  // with start and end
  bool held_out = false;             // its combination of words belongs to the test set
  std::int16_t intent = 0, client = 0;
};

Phrase say(std::size_t client, const std::map<std::string, std::int32_t>& vocabulary, Rng& rng) {
  const std::size_t domain = client / kStyles.size(), style = client % kStyles.size();
  const auto pick = [&](const auto& options) {
    return options[static_cast<std::size_t>(rng.below(options.size()))];
  };
  const auto which = static_cast<std::size_t>(rng.below(4));
  Phrase phrase;
  phrase.intent = static_cast<std::int16_t>(4 * domain + which);
  phrase.client = static_cast<std::int16_t>(client);
  std::string text;
  if (rng.uniform() < 0.7F) text += std::string(pick(kOpenings[style])) + ' ';
  std::size_t combination = 0;
  for (const std::string& word : words_of(kDomains[domain].intents[which].pattern)) {
    const auto slot = slots().find(word);
    const auto options = slot == slots().end() ? alternatives(word) : slot->second;
    const auto choice = static_cast<std::size_t>(rng.below(options.size()));
    combination += choice;
    text += options[choice] + ' ';
  }
  phrase.held_out = combination % kHeldOutOneIn == 0;
  if (rng.uniform() < 0.5F) text += pick(kClosings[style]);
  phrase.tokens.push_back(1);
  for (const std::string& word : words_of(text)) phrase.tokens.push_back(vocabulary.at(word));
  phrase.tokens.push_back(2);
  return phrase;
}

class Phrases final : public Dataset {
 public:
  Phrases(std::vector<Phrase> phrases, DatasetInfo info)
      : phrases_(std::move(phrases)), info_(std::move(info)) {}
  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return phrases_.size(); }
  std::int64_t label(std::size_t index) const override {
    return language() ? 0 : phrases_[index].intent;
  }
  std::size_t length(std::size_t index) const override {
    return phrases_[index].tokens.size() - (language() ? 1 : 0);
  }
  std::string field(std::size_t index) const override {
    const auto client = static_cast<std::size_t>(phrases_[index].client);
    return std::string(kDomains[client / kStyles.size()].name) + ' ' +
           kStyles[client % kStyles.size()];
  }
  Batch gather(std::span<const std::size_t> indices) const override {
    std::vector<std::int64_t> tokens, lengths, labels;
    for (const std::size_t index : indices) {
      const Phrase& phrase = phrases_[index];
      const auto count = static_cast<std::ptrdiff_t>(length(index));
      lengths.push_back(count);
      tokens.insert(tokens.end(), phrase.tokens.begin(), phrase.tokens.begin() + count);
      if (language()) {
        labels.insert(labels.end(), phrase.tokens.begin() + 1, phrase.tokens.end());
      } else {
        labels.push_back(phrase.intent);
      }
    }
    const auto of = [](const std::vector<std::int64_t>& values) {
      return Tensor::of(std::span(values), {});
    };
    Batch batch;
    batch.emplace("tokens", of(tokens));
    batch.emplace("lengths", of(lengths));
    batch.emplace("labels", of(labels));
    return batch;
  }

 private:
  bool language() const { return info_.task == Task::language; }
  std::vector<Phrase> phrases_;
  DatasetInfo info_;
};

Source open_phrases(const config::Options& given, const Rng& root) {
  const auto& options = dynamic_cast<const PhrasesOptions&>(given);
  const auto vocabulary = make_vocabulary();
  DatasetInfo info;
  info.task = options.task == "language" ? Task::language : Task::classify;
  info.vocabulary = static_cast<std::int64_t>(vocabulary.size()) + 3;
  Digest digest;
  for (const auto& [word, token] : vocabulary) digest.add(word);
  info.vocabulary_digest = digest.hex();
  if (info.task == Task::classify) {
    for (const Domain& domain : kDomains) {
      for (const Intent& intent : domain.intents)
        info.classes.push_back(std::string(domain.name) + ' ' + intent.name);
    }
  }
  const auto make = [&](const char* part, std::int64_t count, bool held_out) {
    std::vector<Phrase> phrases;
    for (std::size_t client = 0; client < kDomains.size() * kStyles.size(); ++client) {
      Rng rng = root.stream(part, client);
      for (std::int64_t i = 0; i < count;) {
        Phrase phrase = say(client, vocabulary, rng);
        if (phrase.held_out != held_out) continue;
        phrases.push_back(std::move(phrase));
        ++i;
      }
    }
    return std::make_unique<Phrases>(std::move(phrases), info);
  };
  return {make("phrases", options.per_client, false),
          make("test phrases", options.test_per_client, true)};
}

}  // namespace

DatasetEntry phrases();
DatasetEntry phrases() {
  return {{"phrases", "short requests; a client is a domain and a style; embedded", "",
           [] { return std::make_unique<PhrasesOptions>(); }},
          open_phrases};
}

}  // namespace fedctl::data
