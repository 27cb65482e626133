#include "learn/spec.hpp"

namespace fedctl::learn {
namespace {

using config::Fields;

void path_field(ModelOptions& options, Fields& fields) {
  fields.text("path", options.path, {.kind = "a path"},
              "folder with config.json and model.safetensors, a llama2.c .bin, or a "
              "kwt .safetensors; absent: random weights");
  fields.text("backbone_dtype", options.backbone_dtype, {.one_of = {"float32", "bfloat16"}},
              "number format of the frozen matrices; bfloat16 halves their memory");
}
void path_field(AdapterOptions& options, Fields& fields) {
  fields.text("path", options.path, {.kind = "a path"},
              "PEFT adapter folder to start from; absent: a fresh adapter");
}
void head_field(bool& train_head, Fields& fields) {
  fields.boolean("train_head", train_head,
                 "train the output layer too; a copy of it where it is tied to the embedding");
}

void targets_field(std::vector<std::string>& targets, Fields& fields) {
  fields.texts("targets", targets,
               "layers: query key value qkv output gate up down fc1 fc2, as the family has them; "
               "or patterns of module names with a . or *");
}

template <class T>
std::function<std::unique_ptr<config::Options>()> maker() {
  return [] { return std::make_unique<T>(); };
}

FamilyEntry mlp() {
  return {
      {"mlp", "fully connected layers with ReLU on pixels or features", "", maker<MlpOptions>()},
      true,
      {{"fc1", "layers"}}};
}
FamilyEntry vit() {
  return {{"vit", "Vision Transformer", "Dosovitskiy et al., ICLR 2021, arXiv 2010.11929",
           maker<VitOptions>()},
          true,
          {{"query", "attention.attention.query"},
           {"key", "attention.attention.key"},
           {"value", "attention.attention.value"},
           {"output", "attention.output.dense"},
           {"fc1", "intermediate.dense"},
           {"fc2", "output.dense"}}};
}
FamilyEntry llama() {
  return {{"llama", "decoder language model of the Llama 2 layout",
           "Touvron et al. 2023, arXiv 2307.09288", maker<LlamaOptions>()},
          true,
          {{"query", "self_attn.q_proj"},
           {"key", "self_attn.k_proj"},
           {"value", "self_attn.v_proj"},
           {"output", "self_attn.o_proj"},
           {"gate", "mlp.gate_proj"},
           {"up", "mlp.up_proj"},
           {"down", "mlp.down_proj"}}};
}
FamilyEntry kwt() {
  return {{"kwt", "Keyword Transformer on MFCC features or raw audio",
           "Berg et al., Interspeech 2021, arXiv 2104.00769", maker<KwtOptions>()},
          true,
          {{"query", "attn.q"},
           {"key", "attn.k"},
           {"value", "attn.v"},
           {"output", "attn.proj"},
           {"fc1", "mlp.fc1"},
           {"fc2", "mlp.fc2"}}};
}
FamilyEntry cnn() {
  return {{"cnn", "two convolutions and a fully connected layer",
           "McMahan et al., AISTATS 2017, arXiv 1602.05629", maker<CnnOptions>()},
          true,
          {{"fc1", "fc1"}}};
}
FamilyEntry bert() {
  return {{"bert", "bidirectional text encoder with a classifier",
           "Devlin et al., NAACL 2019, arXiv 1810.04805", maker<BertOptions>()},
          true,
          {{"query", "attention.self.query"},
           {"key", "attention.self.key"},
           {"value", "attention.self.value"},
           {"output", "attention.output.dense"},
           {"fc1", "intermediate.dense"},
           {"fc2", "output.dense"}}};
}
FamilyEntry gpt2() {
  return {{"gpt2", "decoder language model of the GPT-2 layout", "Radford et al. 2019",
           maker<Gpt2Options>()},
          true,
          {{"qkv", "attn.c_attn"},
           {"output", "attn.c_proj"},
           {"fc1", "mlp.c_fc"},
           {"fc2", "mlp.c_proj"}}};
}
FamilyEntry quadratic() {
  return {{"quadratic", "half the squared distance to a target vector; a toy without LibTorch", "",
           maker<QuadraticOptions>()},
          false,
          {}};
}

config::Kind bitfit() {
  return {"bitfit", "the biases of the model", "Ben Zaken et al., ACL 2022, arXiv 2106.10199",
          maker<BitfitOptions>()};
}
config::Kind dora() {
  return {"dora", "low-rank updates of the weights' directions, and their magnitudes",
          "Liu et al., ICML 2024, arXiv 2402.09353", maker<DoraOptions>()};
}
config::Kind ia3() {
  return {"ia3", "learned scales of keys, values and feed-forward inputs",
          "Liu et al., NeurIPS 2022, arXiv 2205.05638", maker<Ia3Options>()};
}
config::Kind prefix() {
  return {"prefix", "soft keys and values in front of every attention layer",
          "Li and Liang, ACL 2021, arXiv 2101.00190", maker<PrefixOptions>()};
}
config::Kind vera() {
  return {"vera", "low-rank updates from shared random matrices, two vectors trained a layer",
          "Kopiczko et al., ICLR 2024, arXiv 2310.11454", maker<VeraOptions>()};
}
config::Kind full() { return {"full", "every parameter of the model", "", maker<FullOptions>()}; }
config::Kind head() { return {"head", "the output layer alone", "", maker<HeadOptions>()}; }
config::Kind lora() {
  return {"lora", "low-rank updates of linear layers", "Hu et al., ICLR 2022, arXiv 2106.09685",
          maker<LoraOptions>()};
}
config::Kind prompt() {
  return {"prompt", "soft tokens in front of the sequence",
          "Lester et al., EMNLP 2021, arXiv 2104.08691", maker<PromptOptions>()};
}

}  // namespace

void MlpOptions::fields(Fields& fields) {
  path_field(*this, fields);
  fields.integer("hidden", hidden, {1, 1 << 16}, "width of each hidden layer");
  fields.integer("layers", layers, {0, 64}, "hidden layers; 0: a linear model");
}
void VitOptions::fields(Fields& fields) {
  path_field(*this, fields);
  fields.integer("patch", patch, {1, 256}, "side of a patch, pixels");
  fields.integer("width", width, {1, 1 << 14}, "width of a token");
  fields.integer("depth", depth, {1, 256}, "blocks");
  fields.integer("heads", heads, {1, 256}, "attention heads; must divide width");
  fields.integer("mlp", mlp, {1, 1 << 16}, "width of the feed-forward layer");
}
void LlamaOptions::fields(Fields& fields) {
  path_field(*this, fields);
  fields.integer("width", width, {1, 1 << 14}, "width of a token");
  fields.integer("hidden", hidden, {1, 1 << 16}, "width of the feed-forward layer");
  fields.integer("depth", depth, {1, 256}, "blocks");
  fields.integer("heads", heads, {1, 256}, "query heads; must divide width");
  fields.integer("kv_heads", kv_heads, {1, 256}, "key and value heads; must divide heads");
  fields.integer("context", context, {2, 1 << 20}, "longest sequence, tokens");
}
void KwtOptions::fields(Fields& fields) {
  path_field(*this, fields);
  fields.integer("width", width, {1, 1 << 14}, "width of a token");
  fields.integer("depth", depth, {1, 256}, "blocks");
  fields.integer("heads", heads, {1, 256}, "attention heads; must divide width");
  fields.integer("mlp", mlp, {1, 1 << 16}, "width of the feed-forward layer");
}
void CnnOptions::fields(Fields& fields) {
  path_field(*this, fields);
  fields.integer("channels", channels, {1, 1 << 12},
                 "channels of the first convolution; the second has twice as many");
  fields.integer("hidden", hidden, {1, 1 << 16}, "width of the fully connected layer");
}
void BertOptions::fields(Fields& fields) {
  path_field(*this, fields);
  fields.text("pooling", pooling, {.one_of = {"cls", "mean"}},
              "what the classifier reads: the first token through HF's pooler, or the mean of all");
  fields.integer("width", width, {1, 1 << 14}, "width of a token");
  fields.integer("hidden", hidden, {1, 1 << 16}, "width of the feed-forward layer");
  fields.integer("depth", depth, {1, 256}, "blocks");
  fields.integer("heads", heads, {1, 256}, "attention heads; must divide width");
  fields.integer("context", context, {2, 1 << 20}, "longest text, tokens");
}
void Gpt2Options::fields(Fields& fields) {
  path_field(*this, fields);
  fields.integer("width", width, {1, 1 << 14},
                 "width of a token; the feed-forward layer is four times as wide");
  fields.integer("depth", depth, {1, 256}, "blocks");
  fields.integer("heads", heads, {1, 256}, "attention heads; must divide width");
  fields.integer("context", context, {2, 1 << 20}, "longest sequence, tokens");
}
void QuadraticOptions::fields(Fields&) {}

void LoraOptions::fields(Fields& fields) {
  fields.integer("rank", rank, {1, 4096}, "rank of an update");
  fields.real("alpha", alpha, {.above = 0}, "updates are scaled by alpha / rank");
  targets_field(targets, fields);
  fields.texts(
      "ranks", ranks,
      "other ranks for some layers, target=rank or target=rank:alpha; the first fit counts");
  fields.boolean("rslora", rslora, "scale by alpha / sqrt(rank) instead (arXiv 2312.03732)");
  fields.real("dropout", dropout, {.min = 0, .below = 1},
              "share of the update's inputs set to zero, in training only");
  head_field(train_head, fields);
  path_field(*this, fields);
}
void DoraOptions::fields(Fields& fields) {
  LoraOptions::fields(fields);
  fields.boolean("exact_norm", exact_norm,
                 "let gradients flow through the norm of the directions, which costs time");
}
void Ia3Options::fields(Fields& fields) {
  fields.texts("targets", targets,
               "layers whose outputs are scaled, as lora's; empty: key and value, or qkv");
  fields.texts("feedforward", feedforward,
               "layers whose inputs are scaled; empty: down or fc2, as the family has them");
  head_field(train_head, fields);
  path_field(*this, fields);
}
void VeraOptions::fields(Fields& fields) {
  fields.integer("rank", rank, {1, 4096}, "rank of the shared matrices");
  fields.real("d_initial", d_initial, {.above = 0}, "first value of the vectors d");
  targets_field(targets, fields);
  head_field(train_head, fields);
  path_field(*this, fields);
}
void PromptOptions::fields(Fields& fields) {
  fields.integer("tokens", tokens, {1, 1024}, "soft tokens");
  head_field(train_head, fields);
  path_field(*this, fields);
}
void PrefixOptions::fields(Fields& fields) {
  fields.integer("tokens", tokens, {1, 1024}, "soft keys and values a layer");
  head_field(train_head, fields);
  path_field(*this, fields);
}
void BitfitOptions::fields(Fields& fields) { head_field(train_head, fields); }
void HeadOptions::fields(Fields&) {}
void FullOptions::fields(Fields&) {}

const std::vector<FamilyEntry>& families() {
#define TORCH_FAMILY(name) name(),
#define PLAIN_FAMILY(name) name(),
  static const std::vector<FamilyEntry> kTable = {
#include "learn/families.def"
  };
#undef TORCH_FAMILY
#undef PLAIN_FAMILY
  return kTable;
}

const config::Kinds& family_kinds() {
  static const config::Kinds kKinds = [] {
    config::Kinds kinds;
    for (const FamilyEntry& entry : families()) kinds.push_back(entry.kind);
    return kinds;
  }();
  return kKinds;
}

const FamilyEntry& family(std::string_view kind) {
  for (const FamilyEntry& entry : families()) {
    if (entry.kind.name == kind) return entry;
  }
  throw ConfigError("no model kind \"" + std::string(kind) + '"', "fedctl list models");
}

const config::Kinds& adapter_kinds() {
#define ADAPTER(name) name(),
  static const config::Kinds kKinds = {
#include "learn/adapters.def"
  };
#undef ADAPTER
  return kKinds;
}

}  // namespace fedctl::learn
