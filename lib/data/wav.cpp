// wav: a folder of 16-bit PCM mono recordings. Label and owner stand in the path. Headers are read
// when the folder is opened, samples when they are gathered.
//
// Recordings at half the rate are brought up by zero-stuffing and a 63-tap half-band filter with a
// Kaiser window (Kaiser 1974): every second tap is zero, given samples pass through unchanged.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/detail/wav_file.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFilesMax = 1'000'000;
constexpr std::uint64_t kListBytesMax = std::uint64_t{64} << 20;
constexpr const char* kTestList = "testing_list.txt";

struct WavOptions final : config::Options {
  std::string path, pattern = "{label}/{file}";
  std::int64_t samples = 16000, rate = 16000, test_below = 0;
  double dither = 0;
  void fields(config::Fields& fields) override {
    fields.text("path", path, {.kind = "a folder", .required = true}, "folder of .wav files");
    fields.text("pattern", pattern, {.kind = "a pattern"},
                "what a file's path below the folder says, without .wav: {label}, {client}, {take} "
                "and other words in braces, which are passed over");
    fields.integer("samples", samples, {1, 10'000'000},
                   "length of an example: longer ones are cut, shorter padded with zeros, centred");
    fields.integer("rate", rate, {1000, 384'000},
                   "samples a second; files of half of it are brought up, others refused");
    fields.integer("test_below", test_below, {0, 1'000'000'000},
                   "recordings with a {take} below this are the test part");
    fields.real("dither", dither, {.min = 0, .max = 1},
                "standard deviation of Gaussian noise added to the samples, the same every time");
  }
};

struct Recording {
  std::string path;
  WavHeader header;
  std::int64_t label = 0;
  std::string owner;
  std::size_t number = 0;  // among all, names its noise
};

class Wav final : public Dataset {
 public:
  Wav(std::vector<Recording> recordings, WavOptions options, DatasetInfo info, Rng rng)
      : recordings_(std::move(recordings)),
        options_(std::move(options)),
        info_(std::move(info)),
        rng_(rng) {}

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return recordings_.size(); }
  std::int64_t label(std::size_t index) const override { return recordings_[index].label; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t index) const override { return recordings_[index].owner; }

  Batch gather(std::span<const std::size_t> indices) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    Tensor features = Tensor::zeros(DType::f32, {n, options_.samples});
    Tensor labels = Tensor::zeros(DType::i64, {n});
    const auto each = static_cast<std::size_t>(options_.samples);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      fill(recordings_[indices[i]], features.f32().subspan(i * each, each));
      labels.i64()[i] = label(indices[i]);
    }
    Batch batch;
    batch.emplace("features", std::move(features));
    batch.emplace("labels", std::move(labels));
    return batch;
  }

 private:
  void fill(const Recording& recording, std::span<float> out) const {
    std::vector<float> samples = read_wav(recording.path, recording.header);
    if (recording.header.rate != options_.rate) samples = upsample_twice(samples);
    if (samples.size() > out.size()) {
      const auto skip = static_cast<std::ptrdiff_t>((samples.size() - out.size()) / 2);
      std::copy_n(samples.begin() + skip, out.size(), out.begin());
    } else {
      const auto skip = static_cast<std::ptrdiff_t>((out.size() - samples.size()) / 2);
      std::ranges::copy(samples, out.begin() + skip);
    }
    if (options_.dither <= 0) return;
    Rng noise = rng_.stream("dither", recording.number);
    for (float& sample : out) sample += static_cast<float>(options_.dither * noise.normal());
  }

  std::vector<Recording> recordings_;
  WavOptions options_;
  DatasetInfo info_;
  Rng rng_;
};

// Paths below the folder, without their ".wav"; sorted. A folder whose name begins with '_'
// (_background_noise_) holds no examples.
std::vector<std::string> list_files(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw DataError(folder + ": no such folder", "data.path is relative to the current directory");
  }
  std::vector<std::string> found;
  for (auto at = fs::recursive_directory_iterator(folder); at != fs::recursive_directory_iterator();
       ++at) {
    const std::string name = at->path().filename().string();
    if (at->is_directory(error)) {
      if (name.starts_with('_')) at.disable_recursion_pending();
      continue;
    }
    if (!name.ends_with(".wav") || name.size() == 4) continue;
    const std::string below = at->path().lexically_relative(folder).generic_string();
    found.push_back(below.substr(0, below.size() - 4));
    if (found.size() > kFilesMax) {
      throw DataError(folder + ": more than " + std::to_string(kFilesMax) + " files",
                      "is it the folder that was meant?");
    }
  }
  if (found.empty())
    throw DataError(folder + ": no .wav file in it", "zip archives must be unpacked first");
  std::ranges::sort(found);
  return found;
}

// testing_list.txt of Speech Commands: one path a line.
std::set<std::string> read_test_list(const std::string& folder) {
  const std::string path = find_in(folder, {kTestList});
  std::set<std::string> listed;
  if (path.empty()) return listed;
  std::string line;
  for (const std::uint8_t byte : read_file(path, kListBytesMax)) {
    if (byte != '\n') {
      if (byte != '\r') line += static_cast<char>(byte);
      continue;
    }
    if (line.ends_with(".wav")) listed.insert(line.substr(0, line.size() - 4));
    line.clear();
  }
  if (line.ends_with(".wav")) listed.insert(line.substr(0, line.size() - 4));
  return listed;
}

struct Scan {
  std::vector<Recording> train, test;
  std::vector<std::string> classes;
};

WavHeader checked_header(const std::string& path, std::int64_t rate) {
  const WavHeader header = read_wav_header(path);
  if (header.rate == rate || header.rate * 2 == rate) return header;
  throw DataError(path + ": " + std::to_string(header.rate) + " samples a second, expected " +
                      std::to_string(rate) + " or half of it",
                  "set data.rate, or resample the files");
}

Scan scan(const WavOptions& options) {
  const PathPattern pattern(options.pattern);
  const std::set<std::string> listed = read_test_list(options.path);
  Scan scan;
  std::map<std::string, std::vector<Recording>> by_label;
  std::set<std::string> in_test;
  std::size_t number = 0;
  for (const std::string& below : list_files(options.path)) {
    Recording recording;
    recording.path = options.path + '/' + below + ".wav";
    recording.number = number++;
    const PathParts parts = pattern.match(below, recording.path);
    recording.header = checked_header(recording.path, options.rate);
    recording.owner = parts.client;
    const bool is_test =
        listed.contains(below) || (parts.take >= 0 && parts.take < options.test_below);
    if (is_test) in_test.insert(recording.path);
    by_label[parts.label].push_back(std::move(recording));
  }
  for (auto& [label, recordings] : by_label) {
    for (Recording& recording : recordings) {
      recording.label = static_cast<std::int64_t>(scan.classes.size());
      (in_test.contains(recording.path) ? scan.test : scan.train).push_back(std::move(recording));
    }
    scan.classes.push_back(label);
  }
  std::ranges::sort(scan.train, {}, &Recording::number);
  std::ranges::sort(scan.test, {}, &Recording::number);
  if (scan.train.empty()) {
    throw DataError(options.path + ": every recording is in the test part",
                    std::string("lower data.test_below, or look at ") + kTestList);
  }
  return scan;
}

Source open_wav(const config::Options& given, const Rng& rng) {
  const auto& options = dynamic_cast<const WavOptions&>(given);
  Scan found = scan(options);
  DatasetInfo info;
  info.classes = std::move(found.classes);
  info.input_shape = {options.samples};
  Source source;
  source.train = std::make_unique<Wav>(std::move(found.train), options, info, rng);
  if (found.test.empty()) {
    source.test = empty_dataset(info);
  } else {
    source.test = std::make_unique<Wav>(std::move(found.test), options, info, rng);
  }
  return source;
}

}  // namespace

DatasetEntry wav();
DatasetEntry wav() {
  return {{"wav", "a folder of WAV recordings, label and owner in their paths", "",
           [] { return std::make_unique<WavOptions>(); }},
          open_wav};
}

}  // namespace fedctl::data
