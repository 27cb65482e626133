// `fedctl codec`: what a chain makes of the float32 tensors of a file, as a receiver would read
// them.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "codec/codec.hpp"
#include "config/config.hpp"
#include "data/safetensors.hpp"
#include "run/commands.hpp"

namespace fedctl::run {
namespace {

using Json = nlohmann::ordered_json;

struct ChainOptions final : config::Options {
  std::vector<config::Plugin> chain;
  void fields(config::Fields& fields) override {
    fields.plugins("chain", chain, codec::codec_kinds(), 8, "codecs, as under codec.up");
  }
};

// What one message, or a tensor in it, came to.
struct Outcome {
  std::string name;
  std::size_t values = 0, bytes = 0;
  double squares = 0, norm = 0;  // of the error, of the values

  void add(std::span<const float> before, std::span<const float> after) {
    values += before.size();
    for (std::size_t i = 0; i < before.size(); ++i) {
      const double error = static_cast<double>(after[i]) - before[i];
      squares += error * error;
      norm += static_cast<double>(before[i]) * before[i];
    }
  }
  double bits() const { return 8 * static_cast<double>(bytes) / static_cast<double>(values); }
  double lost() const { return squares == 0 ? 0 : squares / norm; }
};

codec::BlockSize block_of(const Tensor& tensor) {
  const std::size_t count = element_count(tensor.shape);
  if (tensor.shape.size() < 2) return {count};
  return {count, count / static_cast<std::size_t>(tensor.shape[0])};
}

std::size_t pass(const std::vector<config::Plugin>& chain, codec::Blocks blocks,
                 std::span<float> values, Rng rng) {
  const auto codec = codec::make_chain(chain, "none", blocks, "chain");
  if (!codec) return values.size_bytes();  // as float32
  const Bytes encoded = codec->encode(values, rng);
  codec->decode(encoded, values);
  return encoded.size();
}

// Every float32 tensor with a value; names of the others go to `left_out`.
TensorMap read_tensors(const std::string& path, std::vector<std::string>& left_out) {
  const auto file = data::Safetensors::open(path);
  TensorMap tensors;
  for (const std::string& name : file.names()) {
    const Shape& shape = file.shape(name);
    if (shape.empty() || element_count(shape) == 0 || file.rows(name).dtype != "F32") {
      left_out.push_back(name);
    } else {
      tensors.emplace(name, file.f32(name));
    }
  }
  if (tensors.empty()) {
    throw DataError(path + ": holds no float32 tensor",
                    "fedctl simulate --save-updates writes such files");
  }
  return tensors;
}

// Replaces the tensors by what is decoded; one row each, and the sum behind them.
std::vector<Outcome> code(const CodecFileOptions& options, const std::vector<config::Plugin>& chain,
                          TensorMap& tensors) {
  const Rng root(static_cast<std::uint64_t>(options.seed));
  std::vector<Outcome> rows;
  Outcome sum{"all"};
  std::vector<float> together;
  std::vector<codec::BlockSize> blocks;
  for (const auto& [name, tensor] : tensors) {
    blocks.push_back(block_of(tensor));
    const std::span<const float> values = tensor.f32();
    together.insert(together.end(), values.begin(), values.end());
  }
  const std::vector<float> before = together;
  if (options.together) sum.bytes = pass(chain, blocks, together, root.stream("codec"));
  std::size_t first = 0, number = 0;
  for (auto& [name, tensor] : tensors) {
    const std::size_t count = blocks[number].count;
    const std::span<float> values = std::span(together).subspan(first, count);
    Outcome& row = rows.emplace_back(Outcome{name});
    if (!options.together) {
      row.bytes = pass(chain, std::span(blocks).subspan(number, 1), values,
                       root.stream("codec", static_cast<std::int64_t>(number)));
      sum.bytes += row.bytes;
    }
    row.add(std::span(before).subspan(first, count), values);
    sum.values += row.values;
    sum.squares += row.squares;
    sum.norm += row.norm;
    std::ranges::copy(values, tensor.f32().begin());
    first += count;
    ++number;
  }
  rows.push_back(std::move(sum));
  return rows;
}

Json json_of(const Outcome& row, bool sized) {
  Json object;
  object["name"] = row.name;
  object["values"] = row.values;
  if (sized) {
    object["bytes"] = row.bytes;
    object["bits_per_value"] = row.bits();
  }
  object["lost"] = row.lost();
  object["squared_norm"] = row.norm;
  return object;
}

void print(const CodecFileOptions& options, const std::vector<Outcome>& rows) {
  const bool sized = !options.together;  // tensors have no bytes of their own then
  if (options.output.format == Format::json) {
    Json out;
    for (std::size_t i = 0; i + 1 < rows.size(); ++i) {
      out["tensors"].push_back(json_of(rows[i], sized));
    }
    out["all"] = json_of(rows.back(), true);
    out["all"].erase("name");
    std::printf("%s\n", out.dump(-1, ' ', true, Json::error_handler_t::replace).c_str());
    return;
  }
  std::printf("%12s %12s %12s %12s  %s\n", "values", "bytes", "bits/value", "lost", "tensor");
  for (const Outcome& row : rows) {
    std::printf("%12zu ", row.values);
    if (sized || &row == &rows.back()) {
      std::printf("%12zu %12.4f ", row.bytes, row.bits());
    } else {
      std::printf("%12s %12s ", "", "");
    }
    // As JSON: a name from a file is not for the terminal to act on.
    const std::string name = Json(row.name).dump(-1, ' ', true, Json::error_handler_t::replace);
    std::printf("%12.4g  %s\n", row.lost(), &row == &rows.back() ? "in all" : name.c_str());
  }
}

}  // namespace

int codec_file(const CodecFileOptions& options) {
  ChainOptions wanted;
  config::read({"chain: " + options.chain, "--chain", {}}, wanted);
  codec::make_chain(wanted.chain, "none", std::vector<codec::BlockSize>{64}, "chain");
  std::vector<std::string> left_out;
  TensorMap tensors = read_tensors(options.in, left_out);
  const std::vector<Outcome> rows = code(options, wanted.chain, tensors);
  if (!options.out.empty()) data::write_safetensors(options.out, tensors, {});
  if (!left_out.empty() && !options.output.quiet) {
    std::fprintf(stderr, "fedctl: %zu tensors are no float32 vectors and are left out\n",
                 left_out.size());
  }
  print(options, rows);
  return kDone;
}

}  // namespace fedctl::run
