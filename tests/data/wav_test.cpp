#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>

#include "base/errors.hpp"
#include "data/detail/wav_file.hpp"
#include "data/files.hpp"
#include "data/plugins.hpp"

using namespace fedctl;
using Catch::Contains;
using test::Folder;

namespace {

std::string number(std::uint32_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

struct Shape16 {
  std::uint32_t rate = 16000, channels = 1, bits = 16, format = 1;
};

std::string chunk(const std::string& name, const std::string& body) {
  return name + number(static_cast<std::uint32_t>(body.size()), 4) + body +
         std::string(body.size() % 2, '\0');
}
std::string riff(const std::string& chunks) { return chunk("RIFF", "WAVE" + chunks); }

std::string format_of(const Shape16& shape) {
  const std::uint32_t align = shape.channels * shape.bits / 8;
  return chunk("fmt ", number(shape.format, 2) + number(shape.channels, 2) + number(shape.rate, 4) +
                           number(shape.rate * align, 4) + number(align, 2) +
                           number(shape.bits, 2));
}
std::string samples_of(const std::vector<int>& samples) {
  std::string body;
  for (const int sample : samples) body += number(static_cast<std::uint32_t>(sample), 2);
  return chunk("data", body);
}
std::string wav(const std::vector<int>& samples, const Shape16& shape = {}) {
  return riff(format_of(shape) + samples_of(samples));
}

std::string yaml(const Folder& folder, const std::string& more = "") {
  return "{kind: wav, path: " + folder.path() + more + '}';
}
std::vector<float> row(const data::Dataset& dataset, std::size_t index) {
  const std::vector<std::size_t> one{index};
  const data::Batch batch = dataset.gather(one);
  const auto values = batch.at("features").f32();
  return {values.begin(), values.end()};
}
std::string refused(const std::string& bytes) {
  const Folder folder;
  folder.write("yes/a.wav", bytes);
  return test::refusal<DataError>([&] { test::open_data(yaml(folder)); });
}

}  // namespace

TEST_CASE("wav: folders are labels; short ones are centred, long ones cut", "[data][wav]") {
  const Folder folder;
  folder.write("yes/a.wav", wav({32767, -32768}));
  folder.write("no/b.wav", wav({1, 2, 3, 4, 5, 6, 7, 8, 9}));
  folder.write("_background_noise_/hum.wav", "not read");
  folder.write("README.md", "not read");
  const data::Source source = test::open_data(yaml(folder, ", samples: 6"));
  REQUIRE(source.train->size() == 2);
  CHECK(source.test->size() == 0);
  CHECK(source.train->info().classes == std::vector<std::string>{"no", "yes"});
  CHECK(source.train->info().input_shape == Shape{6});
  CHECK(source.train->label(0) == 0);
  CHECK(row(*source.train, 1) == std::vector<float>{0, 0, 32767.0F / 32768, -1, 0, 0});
  CHECK(row(*source.train, 0)[0] == 2.0F / 32768);
  CHECK(row(*source.train, 0)[5] == 7.0F / 32768);
}

TEST_CASE("wav: label, owner and take from the name", "[data][wav]") {
  const Folder folder;
  folder.write("7_george_0.wav", wav({1}));
  folder.write("7_theo_12.wav", wav({1}));
  folder.write("0_theo_5.wav", wav({1}));
  const std::string pattern = ", samples: 4, pattern: \"{label}_{client}_{take}\"";
  const data::Source source = test::open_data(yaml(folder, pattern + ", test_below: 5"));
  REQUIRE(source.train->size() == 2);
  REQUIRE(source.test->size() == 1);
  CHECK(source.train->info().classes == std::vector<std::string>{"0", "7"});
  CHECK(source.train->field(0) == "theo");
  CHECK(source.test->field(0) == "george");
  CHECK(source.test->label(0) == 1);
  folder.write("7_theo_x.wav", wav({1}));
  CHECK_THROWS_WITH(test::open_data(yaml(folder, pattern)),
                    Contains("7_theo_x.wav") && Contains("{take} is \"x\""));
  folder.write("7_theo_x.wav", wav({1}));
  CHECK_THROWS_WITH(test::open_data(yaml(folder)), Contains("0_theo_5.wav"));
}

TEST_CASE("wav: Speech Commands' layout", "[data][wav]") {
  const Folder folder;
  folder.write("bed/12ab_nohash_0.wav", wav({1}));
  folder.write("bed/34cd_nohash_1.wav", wav({1}));
  folder.write("testing_list.txt", "bed/34cd_nohash_1.wav\n");
  const data::Source source =
      test::open_data(yaml(folder, ", pattern: \"{label}/{client}_nohash_{take}\""));
  REQUIRE(source.train->size() == 1);
  CHECK(source.train->field(0) == "12ab");
  CHECK(source.test->field(0) == "34cd");
  folder.write("testing_list.txt", "bed/12ab_nohash_0.wav\r\nbed/34cd_nohash_1.wav");
  CHECK_THROWS_WITH(test::open_data(yaml(folder)), Contains("every recording"));
}

TEST_CASE("wav: a pattern that says too little is a configuration error", "[data][wav]") {
  CHECK_THROWS_AS(data::PathPattern("{client}_{take}"), ConfigError);
  CHECK_THROWS_AS(data::PathPattern("{label"), ConfigError);
  CHECK_THROWS_AS(data::PathPattern("{label}{take}"), ConfigError);
  const data::PathPattern pattern("clips/{label}-{take}.raw");
  CHECK(pattern.match("clips/a-1.raw", "f").label == "a");
  CHECK(pattern.match("clips/a-1.raw", "f").take == 1);
  CHECK_THROWS_AS(pattern.match("clips/a-b-1.raw", "f"), DataError);  // {take} is "b-1"
  CHECK_THROWS_AS(pattern.match("clips/a-1.raw2", "f"), DataError);
  CHECK_THROWS_AS(pattern.match("clips/-1.raw", "f"), DataError);
  CHECK_THROWS_AS(pattern.match("clips/x/a-1.raw", "f"), DataError);
  CHECK_THROWS_AS(pattern.match("other/a-1.raw", "f"), DataError);
  CHECK_THROWS_AS(pattern.match("clips/", "f"), DataError);
}

TEST_CASE("wav: half the rate is brought up", "[data][wav]") {
  // A tone well inside the band comes out as the same tone at twice the rate.
  std::vector<float> tone(400);
  const auto at = [](double n) { return std::sin(2 * std::numbers::pi * 0.15 * n); };
  for (std::size_t i = 0; i < tone.size(); ++i)
    tone[i] = static_cast<float>(at(static_cast<double>(i)));
  const std::vector<float> twice = data::upsample_twice(tone);
  REQUIRE(twice.size() == 800);
  for (std::size_t i = 64; i < 736; ++i) {
    INFO("sample " << i);
    REQUIRE(twice[i] == Approx(at(static_cast<double>(i) / 2)).margin(2e-4));
  }
  // A constant stays one, except at its ends.
  const std::vector<float> level = data::upsample_twice(std::vector<float>(100, 0.5F));
  CHECK(level[101] == Approx(0.5));

  const Folder folder;
  folder.write("yes/a.wav", wav({8192, 8192}, {.rate = 8000}));
  const data::Source source = test::open_data(yaml(folder, ", samples: 4"));
  CHECK(row(*source.train, 0)[0] == 0.25F);
  CHECK(row(*source.train, 0)[2] == 0.25F);
  folder.write("yes/a.wav", wav({1}, {.rate = 44100}));
  CHECK_THROWS_WITH(test::open_data(yaml(folder)),
                    Contains("44100 samples a second") && Contains("16000"));
}

TEST_CASE("wav: dither is noise that is the same every time", "[data][wav]") {
  const Folder folder;
  folder.write("yes/a.wav", wav({0}));
  folder.write("yes/b.wav", wav({0}));
  const std::string options = ", samples: 1000, dither: 0.01";
  const data::Source first = test::open_data(yaml(folder, options));
  const data::Source again = test::open_data(yaml(folder, options));
  const std::vector<float> noise = row(*first.train, 0);
  CHECK(noise == row(*again.train, 0));
  CHECK(noise != row(*first.train, 1));
  double square = 0;
  for (const float value : noise) square += value * value;
  CHECK(std::sqrt(square / 1000) == Approx(0.01).epsilon(0.1));
}

TEST_CASE("wav: a file that lies about itself is refused with its place", "[data][wav]") {
  const std::string good = wav({1, 2, 3});
  CHECK(refused(good) == "accepted");
  CHECK(refused(riff(chunk("LIST", "odd") + format_of({}) + samples_of({1}))) == "accepted");
  CHECK_THAT(refused(""), Contains("byte 0: ends in its header"));
  CHECK_THAT(refused("RIFX" + good.substr(4)), Contains("byte 0: not a RIFF/WAVE file"));
  CHECK_THAT(refused(good.substr(0, good.size() - 2)), Contains("byte 4: claims a file of 50"));
  // The data chunk claims four bytes more than the file has.
  std::string longer = good;
  longer[40] = 10;
  CHECK_THAT(refused(longer), Contains("byte 40: a chunk claims 10 bytes, 6 are left"));
  longer.replace(40, 4, std::string(4, '\xff'));
  CHECK_THAT(refused(longer), Contains("a chunk claims 4294967295 bytes"));
  std::string odd = good;
  odd[40] = 5;
  CHECK_THAT(refused(odd), Contains("5 bytes of samples"));
  CHECK_THAT(refused(wav({})), Contains("0 bytes of samples"));
  CHECK_THAT(refused(riff(format_of({}))), Contains("the chunk \"data\" is missing"));
  CHECK_THAT(refused(riff(samples_of({1}))), Contains("byte 12: samples before their format"));
  CHECK_THAT(refused(riff(chunk("fmt ", "short") + samples_of({1}))),
             Contains("format of 5 bytes"));
  CHECK_THAT(refused(wav({1, 2}, {.channels = 2})), Contains("2 channels"));
  CHECK_THAT(refused(wav({1, 2}, {.bits = 8})), Contains("8 bits"));
  CHECK_THAT(refused(wav({1, 2}, {.format = 3})), Contains("format 3"));
}

TEST_CASE("wav: a folder without recordings, and one that shrinks", "[data][wav]") {
  const Folder folder;
  CHECK_THROWS_WITH(test::open_data(yaml(folder)), Contains("no .wav file"));
  CHECK_THROWS_AS(test::open_data("{kind: wav, path: /nowhere/at/all}"), DataError);
  folder.write("yes/a.wav", wav({1, 2, 3}));
  const data::Source source = test::open_data(yaml(folder));
  folder.write("yes/a.wav", wav({1, 2, 3}).substr(0, 46));
  CHECK_THROWS_WITH(row(*source.train, 0), Contains("byte 44: ends where 6 bytes"));
}
