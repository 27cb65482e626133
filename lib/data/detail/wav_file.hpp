// One WAV file, and what its path says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fedctl::data {

struct WavHeader {
  std::int64_t rate = 0;
  std::uint64_t data_at = 0;  // byte of the first sample
  std::size_t samples = 0;
};

// Throws DataError naming file and byte: not RIFF/WAVE, a chunk larger than what is left, not
// 16-bit PCM mono, no samples, longer than is read at once.
WavHeader read_wav_header(const std::string& path);

// The samples / 32768, in [-1, 1). Throws DataError if the file has become shorter.
std::vector<float> read_wav(const std::string& path, const WavHeader& header);

// Twice as many samples: the given ones, and between them those of the half-band filter.
std::vector<float> upsample_twice(std::span<const float> samples);

struct PathParts {
  std::string label, client;
  std::int64_t take = -1;
};

// "{label}_{client}_{take}": words in braces stand for at least one character, as few as fit, never
// a '/'; the last one for all that is left.
class PathPattern {
 public:
  explicit PathPattern(const std::string& pattern);  // throws ConfigError
  // Throws DataError, naming the file, if the path does not fit.
  PathParts match(const std::string& path, const std::string& file) const;

 private:
  struct Piece {
    std::string word;     // in braces
    std::string literal;  // behind it
  };
  std::string pattern_, start_;
  std::vector<Piece> pieces_;
};

}  // namespace fedctl::data
