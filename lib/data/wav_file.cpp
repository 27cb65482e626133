#include "data/detail/wav_file.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <numbers>

#include "base/errors.hpp"

namespace fedctl::data {
namespace {

constexpr std::uint64_t kDataBytesMax = std::uint64_t{16} << 20;  // nine minutes at 16 kHz
constexpr int kChunksMax = 1000;
constexpr std::size_t kRiffBytes = 12, kChunkBytes = 8, kFormatBytes = 16;
constexpr std::uint32_t kPcm = 1;

// Half of the filter: taps at offsets 1, 3, ..., 31 from the centre. The window's parameter gives
// 80 dB in the stop band.
constexpr std::size_t kHalfTaps = 16;
constexpr double kCentre = 31, kBeta = 8;

std::uint32_t little(const char* bytes, std::size_t count) {
  std::uint32_t value = 0;
  for (std::size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

[[noreturn]] void fail(const std::string& path, std::uint64_t at, const std::string& what,
                       const std::string& hint = "the file may be damaged or cut short") {
  throw DataError(path + ": byte " + std::to_string(at) + ": " + what, hint);
}

void read_bytes(std::ifstream& file, const std::string& path, std::uint64_t at, char* out,
                std::size_t count) {
  file.seekg(static_cast<std::streamoff>(at));
  file.read(out, static_cast<std::streamsize>(count));
  if (file.gcount() != static_cast<std::streamsize>(count))
    fail(path, at, "ends where " + std::to_string(count) + " bytes were expected");
}

std::ifstream open_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(path + ": cannot be opened", "check permissions");
  return file;
}

// The chunk "fmt ".
void read_format(std::ifstream& file, const std::string& path, std::uint64_t at, std::uint64_t size,
                 WavHeader& header) {
  if (size < kFormatBytes)
    fail(path, at, "format of " + std::to_string(size) + " bytes, expected 16 or more");
  std::array<char, kFormatBytes> format{};
  read_bytes(file, path, at, format.data(), format.size());
  const std::uint32_t tag = little(format.data(), 2), channels = little(format.data() + 2, 2);
  const std::uint32_t bits = little(format.data() + 14, 2), align = little(format.data() + 12, 2);
  if (tag != kPcm || channels != 1 || bits != 16 || align != 2) {
    fail(path, at,
         "format " + std::to_string(tag) + ", " + std::to_string(channels) + " channels, " +
             std::to_string(bits) + " bits, " + std::to_string(align) +
             " bytes a frame, expected 16-bit PCM mono (1, 1, 16, 2)",
         "convert the files to 16-bit PCM mono");
  }
  header.rate = little(format.data() + 4, 4);
}

double bessel_i0(double x) {
  double sum = 1, term = 1;
  for (int k = 1; k < 60; ++k) {
    term *= (x / (2 * k)) * (x / (2 * k));
    sum += term;
  }
  return sum;
}

std::array<double, kHalfTaps> half_band() {
  std::array<double, kHalfTaps> taps{};
  double sum = 0;
  for (std::size_t i = 0; i < kHalfTaps; ++i) {
    const double offset = 2 * static_cast<double>(i) + 1, x = std::numbers::pi * offset / 2;
    const double inside = 1 - (offset / (kCentre + 1)) * (offset / (kCentre + 1));
    taps[i] = std::sin(x) / x * bessel_i0(kBeta * std::sqrt(inside)) / bessel_i0(kBeta);
    sum += 2 * taps[i];
  }
  for (double& tap : taps) tap /= sum;  // a constant stays what it is
  return taps;
}

}  // namespace

WavHeader read_wav_header(const std::string& path) {
  std::ifstream file = open_file(path);
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::uint64_t>(std::max<std::streamoff>(file.tellg(), 0));
  std::array<char, kRiffBytes> riff{};
  if (size < kRiffBytes) fail(path, size, "ends in its header", "is it a WAV file?");
  read_bytes(file, path, 0, riff.data(), riff.size());
  if (std::memcmp(riff.data(), "RIFF", 4) != 0 || std::memcmp(riff.data() + 8, "WAVE", 4) != 0)
    fail(path, 0, "not a RIFF/WAVE file", "only WAV files may end in .wav");
  const std::uint64_t claimed = std::uint64_t{little(riff.data() + 4, 4)} + kChunkBytes;
  if (claimed > size || claimed < kRiffBytes) {
    fail(path, 4,
         "claims a file of " + std::to_string(claimed) + " bytes, it has " + std::to_string(size));
  }
  WavHeader header;
  std::uint64_t at = kRiffBytes;
  for (int chunk = 0; chunk < kChunksMax && at + kChunkBytes <= claimed; ++chunk) {
    std::array<char, kChunkBytes> head{};
    read_bytes(file, path, at, head.data(), head.size());
    const std::uint64_t body = at + kChunkBytes, bytes = little(head.data() + 4, 4);
    if (bytes > claimed - body) {
      fail(path, at + 4,
           "a chunk claims " + std::to_string(bytes) + " bytes, " + std::to_string(claimed - body) +
               " are left");
    }
    if (std::memcmp(head.data(), "fmt ", 4) == 0) read_format(file, path, body, bytes, header);
    if (std::memcmp(head.data(), "data", 4) == 0) {
      if (header.rate == 0) fail(path, at, "samples before their format");
      if (bytes == 0 || bytes % 2 != 0 || bytes > kDataBytesMax) {
        fail(path, at + 4,
             std::to_string(bytes) + " bytes of samples, expected an even number from 2 to " +
                 std::to_string(kDataBytesMax),
             "long recordings must be cut into pieces");
      }
      header.data_at = body;
      header.samples = static_cast<std::size_t>(bytes / 2);
      return header;
    }
    at = body + bytes + bytes % 2;  // chunks begin at even bytes
  }
  fail(path, at, "no samples: the chunk \"data\" is missing");
}

std::vector<float> read_wav(const std::string& path, const WavHeader& header) {
  std::ifstream file = open_file(path);
  std::vector<char> bytes(header.samples * 2);
  read_bytes(file, path, header.data_at, bytes.data(), bytes.size());
  std::vector<float> samples(header.samples);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto value = static_cast<std::int16_t>(little(bytes.data() + 2 * i, 2));
    samples[i] = static_cast<float>(value) / 32768.0F;
  }
  return samples;
}

std::vector<float> upsample_twice(std::span<const float> samples) {
  static const std::array<double, kHalfTaps> kTaps = half_band();
  std::vector<float> out(2 * samples.size());
  const auto at = [&](std::ptrdiff_t i) {
    return i < 0 || i >= std::ssize(samples) ? 0.0 : double{samples[static_cast<std::size_t>(i)]};
  };
  for (std::size_t i = 0; i < samples.size(); ++i) {
    out[2 * i] = samples[i];
    double sum = 0;
    for (std::size_t k = 0; k < kHalfTaps; ++k) {
      const auto left = static_cast<std::ptrdiff_t>(i) - static_cast<std::ptrdiff_t>(k);
      const auto right = static_cast<std::ptrdiff_t>(i + k) + 1;
      sum += kTaps[k] * (at(left) + at(right));
    }
    out[2 * i + 1] = static_cast<float>(sum);
  }
  return out;
}

PathPattern::PathPattern(const std::string& pattern) : pattern_(pattern) {
  const std::string place = "data.pattern is \"" + pattern + "\": ";
  bool has_label = false;
  std::size_t at = std::min(pattern.find('{'), pattern.size());
  start_ = pattern.substr(0, at);
  while (at < pattern.size()) {
    const std::size_t end = pattern.find('}', at);
    if (end == std::string::npos) throw ConfigError(place + "a brace is not closed");
    const std::size_t next = std::min(pattern.find('{', end), pattern.size());
    Piece piece{pattern.substr(at + 1, end - at - 1), pattern.substr(end + 1, next - end - 1)};
    if (piece.literal.empty() && next < pattern.size())
      throw ConfigError(place + "two words with nothing between them");
    has_label = has_label || piece.word == "label";
    pieces_.push_back(std::move(piece));
    at = next;
  }
  if (!has_label)
    throw ConfigError(place + "{label} is missing", "{label}/{file} or {label}_{client}_{take}");
}

PathParts PathPattern::match(const std::string& path, const std::string& file) const {
  const auto refuse = [&](const std::string& what) {
    throw DataError(file + ": " + what + ", data.pattern is \"" + pattern_ + '"',
                    "the pattern is that of the path below data.path, without .wav");
  };
  PathParts parts;
  if (!path.starts_with(start_)) refuse("its path does not begin with \"" + start_ + '"');
  std::size_t at = start_.size();
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    const bool last = i + 1 == pieces_.size();
    std::size_t end = path.size();
    if (last) {
      if (!path.ends_with(piece.literal)) refuse("its path does not fit");
      end -= std::min(end, piece.literal.size());
    } else {
      end = path.find(piece.literal, at + 1);
    }
    if (end == std::string::npos || end <= at)
      refuse("its path has nothing for {" + piece.word + '}');
    const std::string value = path.substr(at, end - at);
    if (value.find('/') != std::string::npos)
      refuse("its path has a folder in {" + piece.word + '}');
    at = end + piece.literal.size();
    if (piece.word == "label") parts.label = value;
    if (piece.word == "client") parts.client = value;
    if (piece.word != "take") continue;
    const auto [stop, error] =
        std::from_chars(value.data(), value.data() + value.size(), parts.take);
    if (error != std::errc{} || stop != value.data() + value.size() || parts.take < 0)
      refuse("{take} is \"" + value + "\", not a number");
  }
  return parts;
}

}  // namespace fedctl::data
