// cifar: CIFAR-10 binary records: one label byte, then 3072 bytes of a 32x32 image, the red plane
// first, then green and blue (Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html). Gzip or not.
#include <algorithm>
#include <filesystem>
#include <map>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kFileBytesMax = std::uint64_t{4} << 30;
constexpr std::uint64_t kNamesBytesMax = std::uint64_t{1} << 16;
constexpr std::size_t kChannels = 3, kSide = 32, kPlane = kSide * kSide;
constexpr std::size_t kImage = kChannels * kPlane, kRecord = 1 + kImage;
constexpr std::size_t kClasses = 10, kClassesMax = 256;
constexpr const char* kNamesFile = "batches.meta.txt";

struct CifarOptions final : config::Options {
  std::string path;
  std::string normalize = "none";
  void fields(config::Fields& fields) override {
    fields.text("path", path, {.kind = "a path", .required = true},
                "folder with train*.bin or data_batch_*.bin, and test*.bin (.gz or not); or one "
                "file of records");
    fields.text("normalize", normalize, {.one_of = {"none", "half", "channel"}},
                "pixels: none: [0,1]; half: [-1,1]; channel: CIFAR-10's mean and deviation");
  }
};

// pixel = byte * scale + offset, per channel.
struct Scaling {
  float scale[kChannels], offset[kChannels];
};

Scaling scaling_of(const std::string& normalize) {
  struct Moments {
    double mean[kChannels], deviation[kChannels];
  };
  const Moments moments = normalize == "half" ? Moments{{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}
                          : normalize == "channel"
                              ? Moments{{0.4914, 0.4822, 0.4465}, {0.2470, 0.2435, 0.2616}}
                              : Moments{{0, 0, 0}, {1, 1, 1}};
  Scaling scaling{};
  for (std::size_t c = 0; c < kChannels; ++c) {
    scaling.scale[c] = static_cast<float>(1 / (255 * moments.deviation[c]));
    scaling.offset[c] = static_cast<float>(-moments.mean[c] / moments.deviation[c]);
  }
  return scaling;
}

class Cifar final : public Dataset {
 public:
  Cifar(std::vector<std::uint8_t> records, Scaling scaling, DatasetInfo info)
      : records_(std::move(records)), scaling_(scaling), info_(std::move(info)) {}

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return records_.size() / kRecord; }
  std::int64_t label(std::size_t index) const override { return records_[index * kRecord]; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t) const override { return ""; }

  Batch gather(std::span<const std::size_t> indices) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    constexpr auto side = static_cast<std::int64_t>(kSide);
    Tensor pixels =
        Tensor::zeros(DType::f32, {n, static_cast<std::int64_t>(kChannels), side, side});
    Tensor labels = Tensor::zeros(DType::i64, {n});
    float* out = pixels.f32().data();
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::uint8_t* in = records_.data() + indices[i] * kRecord + 1;
      for (std::size_t c = 0; c < kChannels; ++c) {
        for (std::size_t j = 0; j < kPlane; ++j)
          *out++ = static_cast<float>(*in++) * scaling_.scale[c] + scaling_.offset[c];
      }
      labels.i64()[i] = label(indices[i]);
    }
    Batch batch;
    batch.emplace("pixels", std::move(pixels));
    batch.emplace("labels", std::move(labels));
    return batch;
  }

 private:
  std::vector<std::uint8_t> records_;
  Scaling scaling_;
  DatasetInfo info_;
};

// Files "<stem>*.bin" and "<stem>*.bin.gz" for one of the stems, by name; of a file that stands
// there both ways, the plain one.
std::vector<std::string> find_files(const std::string& folder,
                                    const std::vector<std::string>& stems) {
  std::map<std::string, std::string> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool packed = name.ends_with(".bin.gz");
    if (!packed && !name.ends_with(".bin")) continue;
    if (std::ranges::none_of(stems, [&](const auto& stem) { return name.starts_with(stem); }))
      continue;
    const std::string plain = packed ? name.substr(0, name.size() - 3) : name;
    if (!packed || !found.contains(plain)) found[plain] = entry.path().string();
  }
  std::vector<std::string> files;
  for (const auto& [name, path] : found) files.push_back(path);
  return files;
}

std::vector<std::string> read_names(const std::string& folder) {
  const std::string path = folder + '/' + kNamesFile;
  std::vector<std::string> names;
  if (!fs::exists(path)) {
    for (std::size_t i = 0; i < kClasses; ++i) names.push_back(std::to_string(i));
    return names;
  }
  const std::vector<std::uint8_t> bytes = read_file(path, kNamesBytesMax);
  std::string line;
  const auto end_line = [&] {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) names.push_back(std::move(line));
    line.clear();
  };
  for (const std::uint8_t byte : bytes) {
    if (byte == '\n') {
      end_line();
    } else {
      line += static_cast<char>(byte);
    }
  }
  end_line();
  if (names.empty() || names.size() > kClassesMax) {
    throw DataError(path + ": names " + std::to_string(names.size()) + " classes, expected 1 to " +
                        std::to_string(kClassesMax),
                    "one class name a line; without the file classes are numbered 0 to 9");
  }
  return names;
}

void append_records(const std::string& path, std::size_t classes, std::vector<std::uint8_t>& out) {
  const std::vector<std::uint8_t> bytes = read_file(path, kFileBytesMax);
  if (bytes.empty()) throw DataError(path + ": no record in it", "the file may be cut short");
  const std::size_t count = bytes.size() / kRecord;
  if (bytes.size() % kRecord != 0) {
    throw DataError(path + ": record " + std::to_string(count) + ", byte " +
                        std::to_string(count * kRecord) + ": has " +
                        std::to_string(bytes.size() % kRecord) + " bytes, expected " +
                        std::to_string(kRecord),
                    "the file may be cut short, or hold images of another size");
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (bytes[i * kRecord] >= classes) {
      throw DataError(path + ": record " + std::to_string(i) + ", byte " +
                          std::to_string(i * kRecord) + ": label is " +
                          std::to_string(bytes[i * kRecord]) + ", expected 0 to " +
                          std::to_string(classes - 1),
                      std::string("are these CIFAR-10 records? ") + kNamesFile +
                          " beside them may name more classes");
    }
  }
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::vector<std::uint8_t> read_part(const std::vector<std::string>& files, std::size_t classes) {
  std::vector<std::uint8_t> records;
  for (const std::string& file : files) append_records(file, classes, records);
  return records;
}

Source open_cifar(const config::Options& given, const Rng&) {
  const auto& options = dynamic_cast<const CifarOptions&>(given);
  std::error_code error;
  const bool is_folder = fs::is_directory(options.path, error);
  std::vector<std::string> train{options.path}, test;
  const fs::path path(options.path);
  const std::string folder = is_folder                ? options.path
                             : path.has_parent_path() ? path.parent_path().string()
                                                      : std::string(1, '.');
  if (is_folder) {
    train = find_files(folder, {"train", "data_batch_"});
    test = find_files(folder, {"test"});
    if (train.empty()) {
      throw DataError(folder + ": no train*.bin or data_batch_*.bin in it",
                      "data.path takes the folder that holds them, or one file of records");
    }
  }
  DatasetInfo info;
  info.classes = read_names(folder);
  info.input_shape = {static_cast<std::int64_t>(kChannels), static_cast<std::int64_t>(kSide),
                      static_cast<std::int64_t>(kSide)};
  const Scaling scaling = scaling_of(options.normalize);
  const std::size_t classes = info.classes.size();
  Source source;
  source.train = std::make_unique<Cifar>(read_part(train, classes), scaling, info);
  if (test.empty()) {
    source.test = empty_dataset(info);
  } else {
    source.test = std::make_unique<Cifar>(read_part(test, classes), scaling, info);
  }
  return source;
}

}  // namespace

DatasetEntry cifar();
DatasetEntry cifar() {
  return {{"cifar", "CIFAR-10 binary records", "Krizhevsky 2009",
           [] { return std::make_unique<CifarOptions>(); }},
          open_cifar};
}

}  // namespace fedctl::data
