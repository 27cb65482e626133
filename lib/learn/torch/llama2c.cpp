#include "learn/torch/llama2c.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace fedctl::learn {
namespace {

struct Header {
  std::int64_t dim, hidden, layers, heads, kv_heads, vocabulary, context;
  bool tied;
  std::int64_t kv_dim() const { return dim / heads * kv_heads; }
};

constexpr std::size_t kHeaderBytes = 7 * sizeof(std::int32_t);
constexpr std::int64_t kNumberMax = 1 << 20;
constexpr std::int64_t kLayersMax = 1 << 10;

Header read_header(const std::string& path, std::ifstream& in) {
  std::array<std::int32_t, 7> raw{};
  if (!in.read(reinterpret_cast<char*>(raw.data()), kHeaderBytes)) {
    throw DataError(path + ": not a llama2.c file: shorter than its header of 28 bytes");
  }
  static constexpr std::array<const char*, 7> kNames = {"dim",      "hidden",     "layers", "heads",
                                                        "kv_heads", "vocabulary", "context"};
  for (std::size_t i = 0; i < raw.size(); ++i) {
    const std::int64_t value = i == 5 ? std::abs(std::int64_t{raw[i]}) : raw[i];
    const std::int64_t most = i == 2 ? kLayersMax : kNumberMax;
    if (value < 1 || value > most) {
      throw DataError(path + ": byte " + std::to_string(4 * i) + ": header: " + kNames[i] + " is " +
                          std::to_string(raw[i]) + ", expected 1 to " + std::to_string(most),
                      "a file of version 1 or 2 begins with \"ak42\": export it as version 0");
    }
  }
  const Header header{raw[0], raw[1],    raw[2], raw[3], raw[4], std::abs(std::int64_t{raw[5]}),
                      raw[6], raw[5] > 0};
  if (header.dim % header.heads != 0 || header.dim / header.heads % 2 != 0) {
    throw DataError(path + ": header: heads is " + std::to_string(header.heads) +
                    ", must divide dim, " + std::to_string(header.dim) + ", into even parts");
  }
  if (header.heads % header.kv_heads != 0) {
    throw DataError(path + ": header: kv_heads is " + std::to_string(header.kv_heads) +
                    ", must divide heads, " + std::to_string(header.heads));
  }
  return header;
}

// Rows of a query or key matrix from llama2.c's order (neighbouring pairs rotate) to HF's (the two
// halves of a head rotate).
void pairs_to_halves(std::span<float> matrix, std::int64_t heads, std::int64_t rows,
                     std::int64_t columns) {
  const std::int64_t head_rows = rows / heads, half = head_rows / 2;
  const std::vector<float> old(matrix.begin(), matrix.end());
  for (std::int64_t head = 0; head < heads; ++head) {
    for (std::int64_t row = 0; row < head_rows; ++row) {
      const std::int64_t from = head * head_rows + row;
      const std::int64_t to = head * head_rows + row / 2 + (row % 2) * half;
      std::copy_n(old.begin() + from * columns, columns, matrix.begin() + to * columns);
    }
  }
}

// One kind of tensor in file order: `layers` of them, or one if `part` names it in full.
struct Entry {
  std::string part;
  Shape shape;
  bool each_layer = true;
  std::int64_t rotary_heads = 0;
};

std::vector<Entry> entries_of(const Header& h) {
  const Shape table = {h.context, h.dim / h.heads / 2};  // rotary factors, which are computed here
  std::vector<Entry> entries = {
      {"model.embed_tokens.weight", {h.vocabulary, h.dim}, false},
      {"input_layernorm", {h.dim}},
      {"self_attn.q_proj", {h.dim, h.dim}, true, h.heads},
      {"self_attn.k_proj", {h.kv_dim(), h.dim}, true, h.kv_heads},
      {"self_attn.v_proj", {h.kv_dim(), h.dim}},
      {"self_attn.o_proj", {h.dim, h.dim}},
      {"post_attention_layernorm", {h.dim}},
      {"mlp.gate_proj", {h.hidden, h.dim}},
      {"mlp.down_proj", {h.dim, h.hidden}},
      {"mlp.up_proj", {h.hidden, h.dim}},
      {"model.norm.weight", {h.dim}, false},
      {"", table, false},
      {"", table, false},
  };
  if (!h.tied) entries.push_back({"lm_head.weight", {h.vocabulary, h.dim}, false});
  return entries;
}

// No overflow: each number is at most 2^20, and a shape has two of them.
std::uint64_t bytes_of(const Entry& entry) {
  std::uint64_t count = sizeof(float);
  for (const std::int64_t dimension : entry.shape) count *= static_cast<std::uint64_t>(dimension);
  return count;
}

}  // namespace

Llama2c read_llama2c(const std::string& path) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  std::ifstream in(path, std::ios::binary);
  if (error || !in) throw DataError(path + ": cannot be read");
  const Header header = read_header(path, in);
  const std::vector<Entry> entries = entries_of(header);
  std::uint64_t expected = kHeaderBytes;
  for (const Entry& entry : entries) {
    const auto times = static_cast<std::uint64_t>(entry.each_layer ? header.layers : 1);
    expected += bytes_of(entry) * times;
  }
  if (size != expected) {
    throw DataError(path + ": has " + std::to_string(size) + " bytes, its header asks for " +
                        std::to_string(expected),
                    size < expected ? "the file is cut short" : "it holds more than one model");
  }
  Llama2c model;
  for (const Entry& entry : entries) {
    for (std::int64_t layer = 0; layer < (entry.each_layer ? header.layers : 1); ++layer) {
      Tensor tensor = Tensor::zeros(DType::f32, entry.shape);
      if (!in.read(reinterpret_cast<char*>(tensor.bytes.data()),
                   static_cast<std::streamsize>(tensor.bytes.size()))) {
        throw DataError(path + ": cannot be read to its end");
      }
      if (entry.rotary_heads > 0) {
        pairs_to_halves(tensor.f32(), entry.rotary_heads, entry.shape[0], entry.shape[1]);
      }
      if (entry.part.empty()) continue;
      model.tensors[entry.each_layer
                        ? "model.layers." + std::to_string(layer) + '.' + entry.part + ".weight"
                        : entry.part] = std::move(tensor);
    }
  }
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  model.config = {{"hidden_size", real(header.dim)},
                  {"intermediate_size", real(header.hidden)},
                  {"num_hidden_layers", real(header.layers)},
                  {"num_attention_heads", real(header.heads)},
                  {"num_key_value_heads", real(header.kv_heads)},
                  {"vocab_size", real(header.vocabulary)},
                  {"max_position_embeddings", real(header.context)},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"tie_word_embeddings", header.tied ? 1.0 : 0.0}};
  return model;
}

}  // namespace fedctl::learn
