// idx: images in the IDX format (MNIST and its relatives): magic 00 00 08 rank, big-endian
// dimensions, bytes. Gzip or not.
#include <algorithm>
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
        "path", path, {.kind = "a path", .required = true},
        "folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-* (.gz or not), "
        "or the images file");
  }
};

struct Idx {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;  // with the header in front
  std::size_t data_at = 0;
};

Idx read_idx(const std::string& path, std::size_t rank) {
  Idx idx;
  idx.data_at = 4 + 4 * rank;
  // The header first: it bounds how far a packed file may unpack.
  const std::vector<std::uint8_t> head = read_up_to(path, idx.data_at);
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | head[at + i];
    return value;
  };
  if (head.size() < idx.data_at) {
    throw DataError(path + ": ends in its header, at byte " + std::to_string(head.size()),
                    "the file may be cut short");
  }
  if (word(0) != (kUnsignedBytes << 8 | rank)) {
    throw DataError(path + ": byte 0: magic is " + std::to_string(word(0)) + ", expected " +
                        std::to_string(kUnsignedBytes << 8 | rank) + " (unsigned bytes, " +
                        std::to_string(rank) + " axes)",
                    "images have three axes, labels one");
  }
  std::uint64_t count = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    idx.shape.push_back(word(4 + 4 * axis));
    if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(idx.shape.back()), &count))
      count = UINT64_MAX;
  }
  const std::string needs =
      path + ": byte 4: dimensions " + to_string(idx.shape) + " need " + std::to_string(count);
  if (count > kFileBytesMax - idx.data_at) {
    throw DataError(needs + " bytes, at most " + std::to_string(kFileBytesMax) + " are read",
                    "the header may be damaged");
  }
  const std::uint64_t size = idx.data_at + count;
  idx.bytes = read_up_to(path, size + 1);
  if (idx.bytes.size() != size) {
    throw DataError(
        needs + " bytes, the file has " +
            (idx.bytes.size() > size ? "more" : std::to_string(idx.bytes.size() - idx.data_at)),
        "the file may be damaged or cut short");
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

constexpr const char* kImages = "-images-idx3-ubyte";
constexpr const char* kLabels = "-labels-idx1-ubyte";

// The images of one split: folder/stem-images-idx3-ubyte, or the same and ".gz".
struct Found {
  std::string folder, stem, images;
};

std::string find_labels(const std::string& folder, const std::string& stem) {
  return find_in(folder, {stem + kLabels, stem + kLabels + ".gz"});
}

std::optional<Found> find_images(const std::string& folder, const std::vector<std::string>& stems) {
  for (const std::string& stem : stems) {
    const std::string images = find_in(folder, {stem + kImages, stem + kImages + ".gz"});
    if (!images.empty()) return Found{folder, stem, images};
    const std::string labels = find_labels(folder, stem);
    if (!labels.empty()) {
      throw DataError(labels + ": its images, " + stem + kImages + ", are missing",
                      "both files of a split stand in one folder");
    }
  }
  return std::nullopt;
}

Found find_train(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    const std::optional<Found> found = find_images(path, {"train", "train10k"});
    if (found) return *found;
    throw DataError(path + ": no train-images-idx3-ubyte in it",
                    "data.path takes the folder that holds it, or an images file");
  }
  const std::filesystem::path file(path);
  const std::string name = file.filename().string();
  const std::size_t stem = name.find(kImages);
  if (!std::filesystem::is_regular_file(path, error)) {
    throw DataError(path + ": no such folder or file",
                    "data.path is relative to the current directory");
  }
  if (stem == std::string::npos) {
    throw DataError(path + ": not named *" + kImages,
                    "its labels are looked for under the same name with -labels-idx1-ubyte");
  }
  const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
  return {folder, name.substr(0, stem), path};
}

struct Part {
  Idx images, labels;
};

Part read_part(const Found& found) {
  const std::string labels = find_labels(found.folder, found.stem);
  if (labels.empty()) {
    throw DataError(found.images + ": its labels, " + found.stem + kLabels + ", are missing",
                    "both files of a split stand in one folder");
  }
  Part part{read_idx(found.images, 3), read_idx(labels, 1)};
  if (part.images.shape[0] != part.labels.shape[0]) {
    throw DataError(labels + ": " + std::to_string(part.labels.shape[0]) + " labels for " +
                        std::to_string(part.images.shape[0]) + " images",
                    "are the two files of one set?");
  }
  return part;
}

std::uint8_t highest_label(const Idx& labels) {
  std::uint8_t highest = 0;
  for (std::size_t i = labels.data_at; i < labels.bytes.size(); ++i)
    highest = std::max(highest, labels.bytes[i]);
  return highest;
}

Source open_idx(const config::Options& options, const Rng&) {
  const Found found = find_train(dynamic_cast<const IdxOptions&>(options).path);
  Part train = read_part(found);
  if (train.images.bytes.size() == train.images.data_at)
    throw DataError(found.images + ": no pixels in it", "is it the file that was meant?");
  // Asked to train on the test file, there is nothing to test on.
  std::optional<Part> test;
  if (const auto other = find_images(found.folder, {"t10k", "test"});
      other && other->stem != found.stem) {
    test = read_part(*other);
    if (!std::ranges::equal(std::span(test->images.shape).subspan(1),
                            std::span(train.images.shape).subspan(1))) {
      throw DataError(other->images + ": images " + to_string(test->images.shape) +
                          ", those to train on are " + to_string(train.images.shape),
                      "are the files of one set?");
    }
  }
  DatasetInfo info;
  info.input_shape = {1, train.images.shape[1], train.images.shape[2]};
  // A class that only the test part has still needs an output.
  const unsigned highest =
      std::max(highest_label(train.labels), test ? highest_label(test->labels) : std::uint8_t{0});
  for (unsigned label = 0; label <= highest; ++label) info.classes.push_back(std::to_string(label));
  Source source;
  source.train =
      std::make_unique<IdxImages>(std::move(train.images), std::move(train.labels), info);
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
