#include "learn/torch/kwt_file.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "base/errors.hpp"

namespace fedctl::learn {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kLabelsBytesMax = std::uintmax_t{1} << 20;
constexpr std::int64_t kHeadWidth = 64;  // of all published models: KWT-1, KWT-2, KWT-3

// The file itself, or the one in the folder.
std::string find_file(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  std::vector<std::string> found;
  for (fs::directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") found.push_back(entry->path().string());
  }
  if (error) throw DataError(path + ": cannot be read: " + error.message());
  if (found.size() == 1) return found.front();
  throw DataError(path + ": holds " + std::to_string(found.size()) +
                      " .safetensors files and no config.json, expected one file",
                  "give the file itself as model.path");
}

std::vector<std::string> read_labels(const std::string& path) {
  std::vector<std::string> labels;
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) return labels;
  if (size > kLabelsBytesMax) {
    throw DataError(path + ": has " + std::to_string(size) + " bytes, at most " +
                    std::to_string(kLabelsBytesMax) + " allowed");
  }
  std::ifstream in(path, std::ios::binary);
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) labels.push_back(line);
  }
  if (!in.eof()) throw DataError(path + ": cannot be read");
  return labels;
}

class Shapes {
 public:
  Shapes(const data::Safetensors& tensors, std::string path)
      : tensors_(tensors), path_(std::move(path)) {}

  // Axis `axis` of a tensor that must have `rank` of them.
  double axis(const std::string& name, std::size_t rank, std::size_t axis) const {
    if (!tensors_.contains(name)) {
      throw DataError(path_ + ": has no tensor \"" + name + '"', "is it a model of another kind?");
    }
    const Shape& shape = tensors_.shape(name);
    if (shape.size() != rank || shape[axis] < 1) {
      throw DataError(path_ + ": tensor \"" + name + "\" is " + to_string(shape) + ", expected " +
                      std::to_string(rank) + " axes and no empty one");
    }
    return static_cast<double>(shape[axis]);
  }
  std::int64_t blocks() const {
    std::int64_t count = 0;
    while (tensors_.contains("blocks." + std::to_string(count) + ".attn.q.weight")) ++count;
    return count;
  }
  // The metadata's "heads", which no shape says.
  double heads(double width) const {
    const auto found = tensors_.metadata().find("heads");
    if (found == tensors_.metadata().end()) {
      return static_cast<double>(
          std::max<std::int64_t>(1, static_cast<std::int64_t>(width) / kHeadWidth));
    }
    const std::string& text = found->second;
    int heads = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), heads);
    if (error != std::errc{} || end != text.data() + text.size()) {
      throw DataError(path_ + ": metadata heads is \"" + text + "\", expected an integer");
    }
    return heads;
  }

 private:
  const data::Safetensors& tensors_;
  std::string path_;
};

}  // namespace

KwtFile read_kwt_file(const std::string& path) {
  const std::string file = find_file(path);
  KwtFile model{data::Safetensors::open(file), {}, {}};
  const Shapes shapes(model.tensors, file);
  const double width = shapes.axis("patch.weight", 2, 0);
  model.config = {{"hidden_size", width},
                  {"num_hidden_layers", static_cast<double>(shapes.blocks())},
                  {"num_attention_heads", shapes.heads(width)},
                  {"intermediate_size", shapes.axis("blocks.0.mlp.fc1.weight", 2, 0)},
                  {"num_frames", shapes.axis("pos_embed", 3, 1) - 1},
                  {"num_coefficients", shapes.axis("patch.weight", 2, 1)}};
  if (model.tensors.contains("frontend.window")) {
    model.config["frame_samples"] = shapes.axis("frontend.window", 1, 0);
    model.config["dft_bins"] = shapes.axis("frontend.dft_real", 2, 0);
    model.config["mel_bins"] = shapes.axis("frontend.mel", 2, 0);
  }
  model.classes = read_labels((fs::path(file).parent_path() / "labels.txt").string());
  return model;
}

}  // namespace fedctl::learn
