// A small experiment for the tests of config: nested sections, plugins with a default and without,
// a plugin whose options hold one of the same kinds, lists of plugins, every type of value.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace fedctl::test {

using config::Fields;
using config::Kinds;
using config::Options;
using config::Plugin;

template <class T>
std::unique_ptr<Options> make() {
  return std::make_unique<T>();
}

struct Topk final : Options {
  double ratio = 0.05;
  void fields(Fields& f) override {
    f.real("ratio", ratio, {.above = 0, .max = 1}, "share of the entries that are kept");
  }
};
struct Quantize final : Options {
  std::int64_t bits = 4;
  bool signs = false;
  void fields(Fields& f) override {
    f.integer("bits", bits, {2, 8}, "bits of one value");
    f.boolean("signs", signs, "send signs only");
  }
};
struct Nothing final : Options {
  void fields(Fields&) override {}
};
inline const Kinds& codec_kinds() {
  static const Kinds kinds = {{"float16", "halves", "", make<Nothing>},
                              {"quantize", "stochastic rounding", "QSGD, 2017", make<Quantize>},
                              {"topk", "largest magnitudes", "", make<Topk>}};
  return kinds;
}

struct Sgd final : Options {
  double lr = 0.05;
  double momentum = 0;
  void fields(Fields& f) override {
    f.real("lr", lr, {.above = 0}, "learning rate");
    f.real("momentum", momentum, {.min = 0, .below = 1}, "share of the last step");
  }
};
struct Adamw final : Options {
  double lr = 0.001;
  double weight_decay = 0.01;
  void fields(Fields& f) override {
    f.real("lr", lr, {.above = 0}, "learning rate");
    f.real("weight_decay", weight_decay, {.min = 0}, "decoupled decay");
  }
};
inline const Kinds& optimizer_kinds() {
  static const Kinds kinds = {{"sgd", "plain or with momentum", "", make<Sgd>},
                              {"adamw", "Adam", "Loshchilov and Hutter, 2019", make<Adamw>}};
  return kinds;
}

// mean, or clip around another one.
const Kinds& aggregator_kinds();
struct Clip final : Options {
  double norm = 1;
  Plugin of;  // required
  void fields(Fields& f) override {
    f.real("norm", norm, {.above = 0, .below = 1e6}, "longest update");
    f.plugin("of", of, aggregator_kinds(), "what the clipped updates go to");
  }
};
inline const Kinds& aggregator_kinds() {
  static const Kinds kinds = {{"mean", "weighted mean", "", make<Nothing>},
                              {"clip", "clipping first", "", make<Clip>}};
  return kinds;
}

struct Files final : Options {
  std::string path;
  std::vector<std::string> columns = {"text", "label"};
  void fields(Fields& f) override {
    f.text("path", path, {.kind = "a path", .required = true}, "one file");
    f.texts("columns", columns, "names of the columns");
  }
};
struct Glyphs final : Options {
  std::int64_t hands = 8;
  void fields(Fields& f) override { f.integer("hands", hands, {1, 1000}, "writers"); }
};
inline const Kinds& data_kinds() {
  static const Kinds kinds = {{"glyphs", "drawn letters", "", make<Glyphs>},
                              {"files", "tables", "", make<Files>}};
  return kinds;
}

struct Train final : Options {
  std::int64_t epochs = 1;
  double noise = -1.5;
  Plugin optimizer = make_plugin(optimizer_kinds(), "sgd");
  void fields(Fields& f) override {
    f.integer("epochs", epochs, {.min = 1}, "passes over the client's examples");
    f.real("noise", noise, {}, "any number");
    f.plugin("optimizer", optimizer, optimizer_kinds(), "rule of a step");
  }
};
struct Codec final : Options {
  std::vector<Plugin> up, down = {make_plugin(codec_kinds(), "float16")};
  std::string feedback = "none";
  void fields(Fields& f) override {
    f.plugins("up", up, codec_kinds(), 3, "client to server");
    f.plugins("down", down, codec_kinds(), 3, "server to client");
    f.text("feedback", feedback, {.one_of = {"none", "ef14", "ef21"}}, "what becomes of the error");
  }
};

struct Root final : Options {
  std::string name, note;
  std::int64_t seed = 1, rounds = 20, offset = 0;
  Plugin data;  // required
  Train train;
  Plugin aggregate = make_plugin(aggregator_kinds(), "mean");
  Codec codec;
  Nothing privacy;
  bool log = false;
  void fields(Fields& f) override {
    f.text("name", name, {.kind = "[a-z0-9-]", .required = true}, "names the run directory");
    f.text("note", note, {}, "for people");
    f.integer("seed", seed, {.min = 0}, "root of every random stream");
    f.integer("rounds", rounds, {1, 1000}, "rounds of training");
    f.integer("offset", offset, {}, "any integer");
    f.plugin("data", data, data_kinds(), "the examples");
    f.section("train", train, "local training");
    f.plugin("aggregate", aggregate, aggregator_kinds(), "how updates become one");
    f.section("codec", codec, "compression");
    f.section("privacy", privacy, "reserved");
    f.boolean("log", log, "one line a client too");
  }
};

}  // namespace fedctl::test
