// idx: images in the IDX format (MNIST and its relatives): magic 00 00 08 rank, big-endian
// dimensions, bytes. Gzip or not.
#include <filesystem>
#include <optional>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kFileBytesMax = std::uint64_t{4} << 30;
constexpr std::uint32_t kUnsignedBytes = 0x08;

struct IdxOptions final : config::Options {
  std::string path;
  void fields(config::Fields& fields) override {
    fields.text(
        "path", path, {.kind = "a folder", .required = true},
        "folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-* (.gz or not)");
  }
};

struct Idx {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;  // with the header in front
  std::size_t data_at = 0;
};

Idx read_idx(const std::string& path, std::size_t rank) {
  Idx idx;
  idx.bytes = read_file(path, kFileBytesMax);
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | idx.bytes[at + i];
    return value;
  };
  idx.data_at = 4 + 4 * rank;
  if (idx.bytes.size() < idx.data_at)
    throw DataError(path + ": ends in its header, at byte " + std::to_string(idx.bytes.size()));
  if (word(0) != (kUnsignedBytes << 8 | rank)) {
    throw DataError(path + ": byte 0: magic is " + std::to_string(word(0)) + ", expected " +
                    std::to_string(kUnsignedBytes << 8 | rank) + " (unsigned bytes, " +
                    std::to_string(rank) + " axes)");
  }
  std::uint64_t count = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    idx.shape.push_back(word(4 + 4 * axis));
    if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(idx.shape.back()), &count))
      count = UINT64_MAX;
  }
  if (count != idx.bytes.size() - idx.data_at) {
    throw DataError(path + ": byte 4: dimensions " + to_string(idx.shape) + " need " +
                        std::to_string(count) + " bytes, the file has " +
                        std::to_string(idx.bytes.size() - idx.data_at),
                    "the file may be cut short");
  }
  return idx;
}

class IdxImages final : public Dataset {
 public:
  IdxImages(Idx images, Idx labels, DatasetInfo info)
      : images_(std::move(images)), labels_(std::move(labels)), info_(std::move(info)) {}

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return static_cast<std::size_t>(labels_.shape[0]); }
  std::int64_t label(std::size_t index) const override {
    return labels_.bytes[labels_.data_at + index];
  }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t) const override { return ""; }

  Batch gather(std::span<const std::size_t> indices) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    const std::int64_t rows = images_.shape[1], columns = images_.shape[2];
    Tensor pixels = Tensor::zeros(DType::f32, {n, 1, rows, columns});
    Tensor labels = Tensor::zeros(DType::i64, {n});
    const auto each = static_cast<std::size_t>(rows * columns);
    float* out = pixels.f32().data();
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::uint8_t* in = images_.bytes.data() + images_.data_at + indices[i] * each;
      for (std::size_t j = 0; j < each; ++j) *out++ = static_cast<float>(in[j]) * (1.0F / 255.0F);
      labels.i64()[i] = label(indices[i]);
    }
    Batch batch;
    batch.emplace("pixels", std::move(pixels));
    batch.emplace("labels", std::move(labels));
    return batch;
  }

 private:
  Idx images_, labels_;
  DatasetInfo info_;
};

struct Part {
  Idx images, labels;
};

// The images and labels of one split, or nothing if neither file is there.
std::optional<Part> read_part(const std::string& folder, const std::vector<std::string>& stems) {
  for (const std::string& stem : stems) {
    const std::string images =
        find_in(folder, {stem + "-images-idx3-ubyte", stem + "-images-idx3-ubyte.gz"});
    const std::string labels =
        find_in(folder, {stem + "-labels-idx1-ubyte", stem + "-labels-idx1-ubyte.gz"});
    if (images.empty()) continue;
    if (labels.empty())
      throw DataError(images + ": its labels, " + stem + "-labels-idx1-ubyte, are missing");
    Part part{read_idx(images, 3), read_idx(labels, 1)};
    if (part.images.shape[0] != part.labels.shape[0]) {
      throw DataError(labels + ": " + std::to_string(part.labels.shape[0]) + " labels for " +
                      std::to_string(part.images.shape[0]) + " images");
    }
    return part;
  }
  return std::nullopt;
}

Source open_idx(const config::Options& options, const Rng&) {
  const std::string& path = dynamic_cast<const IdxOptions&>(options).path;
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    throw DataError("data.path: " + path + ": no such folder",
                    "paths are relative to the current directory");
  }
  std::optional<Part> train = read_part(path, {"train", "train10k"});
  if (!train || train->labels.shape[0] == 0) {
    throw DataError(path + ": no train-images-idx3-ubyte with examples in it",
                    "data.path takes the folder that holds it");
  }
  DatasetInfo info;
  info.input_shape = {1, train->images.shape[1], train->images.shape[2]};
  std::uint8_t highest = 0;
  for (std::size_t i = train->labels.data_at; i < train->labels.bytes.size(); ++i) {
    highest = std::max(highest, train->labels.bytes[i]);
  }
  for (unsigned label = 0; label <= highest; ++label) info.classes.push_back(std::to_string(label));
  std::optional<Part> test = read_part(path, {"t10k", "test"});
  if (test && (test->images.shape[1] != info.input_shape[1] ||
               test->images.shape[2] != info.input_shape[2])) {
    throw DataError(path + ": test images have another size than training images");
  }
  Source source;
  source.train =
      std::make_unique<IdxImages>(std::move(train->images), std::move(train->labels), info);
  if (test) {
    source.test =
        std::make_unique<IdxImages>(std::move(test->images), std::move(test->labels), info);
  } else {
    source.test = empty_dataset(info);
  }
  return source;
}

}  // namespace

DatasetEntry idx();
DatasetEntry idx() {
  return {{"idx", "IDX image files (MNIST, Fashion-MNIST)", "",
           [] { return std::make_unique<IdxOptions>(); }},
          open_idx};
}

}  // namespace fedctl::data
