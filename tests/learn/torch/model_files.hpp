// Writers for model files of every kind, correct or damaged on purpose.
#pragma once

#include <bit>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/rng.hpp"
#include "learn/torch/models.hpp"

namespace fedctl::test {

using Values = std::map<std::string, std::pair<Shape, std::vector<float>>>;

inline std::string raw(const std::vector<float>& values, const std::string& dtype) {
  std::string bytes;
  for (const float value : values) {
    std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    if (dtype == "F32") {
      bytes.append(reinterpret_cast<const char*>(&bits), 4);
      continue;
    }
    // Rounding towards zero is good enough: the test compares with the widened values.
    std::uint16_t half = static_cast<std::uint16_t>(bits >> 16);  // BF16
    if (dtype == "F16") {
      const std::uint32_t exponent = (bits >> 23) & 0xff;
      half = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
      if (exponent > 112) {  // normal halves only; smaller values become zero
        half = static_cast<std::uint16_t>(half | ((exponent - 112) << 10) | ((bits >> 13) & 0x3ff));
      }
    }
    bytes.append(reinterpret_cast<const char*>(&half), 2);
  }
  return bytes;
}

inline std::string safetensors(const Values& tensors, const std::string& dtype) {
  nlohmann::json header = nlohmann::json::object();
  std::string body;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t begin = body.size();
    body += raw(tensor.second, dtype);
    header[name] = {
        {"dtype", dtype}, {"shape", tensor.first}, {"data_offsets", {begin, body.size()}}};
  }
  const std::string text = header.dump();
  const std::uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + text + body;
}

inline std::vector<float> random_values(std::size_t count, Rng rng, double scale) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(scale * rng.normal());
  return values;
}

// A Llama of width 8, 2 query heads, 1 key/value head, 2 layers, 11 tokens, in HF's layout.
inline nlohmann::json llama_config() {
  return {{"model_type", "llama"},    {"hidden_size", 8},
          {"intermediate_size", 12},  {"num_hidden_layers", 2},
          {"num_attention_heads", 2}, {"num_key_value_heads", 1},
          {"vocab_size", 11},         {"max_position_embeddings", 16},
          {"rms_norm_eps", 1e-5},     {"rope_theta", 10000.0},
          {"hidden_act", "silu"},     {"tie_word_embeddings", false}};
}
inline Values llama_values(double scale = 0.5) {
  Values values;
  const auto add = [&](const std::string& name, Shape shape) {
    const std::size_t count = element_count(shape);
    values[name] = {std::move(shape), random_values(count, Rng(3).stream(name), scale)};
  };
  add("model.embed_tokens.weight", {11, 8});
  add("model.norm.weight", {8});
  add("lm_head.weight", {11, 8});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + '.';
    add(at + "input_layernorm.weight", {8});
    add(at + "post_attention_layernorm.weight", {8});
    add(at + "self_attn.q_proj.weight", {8, 8});
    add(at + "self_attn.k_proj.weight", {4, 8});
    add(at + "self_attn.v_proj.weight", {4, 8});
    add(at + "self_attn.o_proj.weight", {8, 8});
    add(at + "mlp.gate_proj.weight", {12, 8});
    add(at + "mlp.up_proj.weight", {12, 8});
    add(at + "mlp.down_proj.weight", {8, 12});
  }
  return values;
}

inline void write_model(const std::string& folder, const nlohmann::json& config,
                        const Values& values, const std::string& dtype = "F32") {
  std::filesystem::create_directories(folder);
  write_file(folder + "/config.json", config.dump());
  write_file(folder + "/model.safetensors", safetensors(values, dtype));
}

// The same Llama as llama2.c's version 0, from HF's values: rows of q and k from halves to pairs.
inline std::string llama2c_bytes(const Values& values) {
  const std::vector<std::int32_t> header = {8, 12, 2, 2, 1, -11, 16};
  std::string bytes(reinterpret_cast<const char*>(header.data()), header.size() * 4);
  const auto put = [&](const std::string& name, int heads) {
    const auto& [shape, flat] = values.at(name);
    if (heads == 0) {
      bytes += raw(flat, "F32");
      return;
    }
    const std::size_t columns = 8, head_rows = 4, half = 2;
    for (std::size_t head = 0; head < static_cast<std::size_t>(heads); ++head) {
      for (std::size_t row = 0; row < head_rows; ++row) {
        const std::size_t from = head * head_rows + row / 2 + (row % 2) * half;
        const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(from * columns);
        bytes += raw(std::vector<float>(begin, begin + columns), "F32");
      }
    }
  };
  const auto each = [&](const std::string& part, int heads = 0) {
    for (int layer = 0; layer < 2; ++layer) {
      put("model.layers." + std::to_string(layer) + '.' + part + ".weight", heads);
    }
  };
  put("model.embed_tokens.weight", 0);
  each("input_layernorm");
  each("self_attn.q_proj", 2);
  each("self_attn.k_proj", 1);
  each("self_attn.v_proj");
  each("self_attn.o_proj");
  each("post_attention_layernorm");
  each("mlp.gate_proj");
  each("mlp.down_proj");
  each("mlp.up_proj");
  put("model.norm.weight", 0);
  bytes += std::string(2 * 16 * 2 * 4, '\0');
  put("lm_head.weight", 0);
  return bytes;
}

}  // namespace fedctl::test
