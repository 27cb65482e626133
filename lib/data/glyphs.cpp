// glyphs: 28 x 28 grey images of stroked characters, made on the spot. A client is a hand: slant,
// proportions, turn, stroke width, unsteadiness and noise of its own, and a mild preference for
// some characters. The test set is by other hands.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/errors.hpp"
#include "data/detail/glyph_shapes.hpp"
#include "data/registry.hpp"

namespace fedctl::data {
namespace {

constexpr std::int64_t kSide = 28;
constexpr std::size_t kPixels = kSide * kSide;
constexpr std::int64_t kTestHands = 20;
constexpr std::int64_t kImagesMax = 5'000'000;  // 4 GB of pixels

struct GlyphsOptions final : config::Options {
  std::int64_t classes_from = 0, classes = 10, hands = 100, per_hand = 40, test_per_class = 40;
  void fields(config::Fields& fields) override {
    const auto most = static_cast<std::int64_t>(kGlyphs);
    fields.integer("classes_from", classes_from, {0, most - 1}, "first of the twenty glyphs used");
    fields.integer("classes", classes, {1, most}, "glyphs used from there");
    fields.integer("hands", hands, {1, 1'000'000}, "writers; each is a natural client");
    fields.integer("per_hand", per_hand, {1, 100'000}, "training images by each hand");
    fields.integer("test_per_class", test_per_class, {0, 100'000},
                   "test images of each glyph, by other hands");
  }
};

struct Hand {
  double slant, wide, tall, turn, stroke, unsteady, noise;
  std::vector<double> preference;  // cumulative, one a class

  Hand(Rng rng, std::size_t classes)
      : slant(rng.uniform(-0.45, 0.45)),
        wide(rng.uniform(0.6, 0.95)),
        tall(rng.uniform(0.7, 0.95)),
        turn(rng.uniform(-0.25, 0.25)),
        stroke(rng.uniform(0.7, 2.0)),
        unsteady(rng.uniform(0.02, 0.07)),
        noise(rng.uniform(0.02, 0.16)) {
    double sum = 0;
    for (std::size_t i = 0; i < classes; ++i) preference.push_back(sum += rng.gamma(2));
    for (double& edge : preference) edge /= sum;
  }
};

double distance_squared(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
  const double t =
      length > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length, 0.0, 1.0) : 0;
  const double x = p.x - a.x - t * dx, y = p.y - a.y - t * dy;
  return x * x + y * y;
}

// Lowers the squared distances of the pixels that the segment's ink can reach. The others are
// skipped: most of an image is far from most of its strokes.
void bring_near(Point a, Point b, double reach, std::array<double, kPixels>& nearest) {
  const auto pixel_from = [](double at) {
    return std::clamp<std::int64_t>(std::llround(at - 1), 0, kSide);
  };
  const auto pixel_to = [](double at) {
    return std::clamp<std::int64_t>(std::llround(at + 1), 0, kSide);
  };
  const auto [left, right] = std::minmax(a.x, b.x);
  const auto [top, bottom] = std::minmax(a.y, b.y);
  for (std::int64_t row = pixel_from(top - reach); row < pixel_to(bottom + reach); ++row) {
    for (std::int64_t column = pixel_from(left - reach); column < pixel_to(right + reach);
         ++column) {
      const Point pixel{static_cast<double>(column) + 0.5, static_cast<double>(row) + 0.5};
      double& squared = nearest[static_cast<std::size_t>(row * kSide + column)];
      squared = std::min(squared, distance_squared(pixel, a, b));
    }
  }
}

// One image: the glyph's points moved by the hand, ink by distance to the strokes, then noise.
void draw(const Glyph& glyph, const Hand& hand, Rng& rng, std::uint8_t* out) {
  const double shift_x = rng.uniform(-1.5, 1.5), shift_y = rng.uniform(-1.5, 1.5);
  const double c = std::cos(hand.turn), s = std::sin(hand.turn);
  std::vector<std::pair<Point, Point>> segments;
  for (const Stroke& stroke : glyph) {
    Point last;
    for (std::size_t i = 0; i < stroke.size(); ++i) {
      double x = (stroke[i].x - 0.5 + hand.unsteady * rng.normal()) * hand.wide;
      const double y = (stroke[i].y - 0.5 + hand.unsteady * rng.normal()) * hand.tall;
      x -= hand.slant * y;
      const Point point{kSide * (0.5 + 0.85 * (c * x - s * y)) + shift_x,
                        kSide * (0.5 + 0.85 * (s * x + c * y)) + shift_y};
      if (i > 0) segments.emplace_back(last, point);
      last = point;
    }
  }
  const double reach = hand.stroke + 0.5;
  std::array<double, kPixels> nearest;  // squared distance to the strokes, where it matters
  nearest.fill(reach * reach);
  for (const auto& [a, b] : segments) bring_near(a, b, reach, nearest);
  for (const double squared : nearest) {
    const double ink = std::clamp(reach - std::sqrt(squared), 0.0, 1.0) + hand.noise * rng.normal();
    *out++ = static_cast<std::uint8_t>(std::lround(255 * std::clamp(ink, 0.0, 1.0)));
  }
}

class Images final : public Dataset {
 public:
  explicit Images(DatasetInfo info) : info_(std::move(info)) {}
  void add(const Glyph& glyph, std::int64_t label, std::int32_t hand_number, const Hand& hand,
           Rng& rng) {
    pixels_.resize(pixels_.size() + kPixels);
    draw(glyph, hand, rng, pixels_.data() + pixels_.size() - kPixels);
    labels_.push_back(static_cast<std::uint8_t>(label));
    hands_.push_back(hand_number);
  }

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return labels_.size(); }
  std::int64_t label(std::size_t index) const override { return labels_[index]; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t index) const override {
    return "hand " + std::to_string(hands_[index]);
  }
  Batch gather(std::span<const std::size_t> indices) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    Tensor pixels = Tensor::zeros(DType::f32, {n, 1, kSide, kSide}),
           labels = Tensor::zeros(DType::i64, {n});
    float* out = pixels.f32().data();
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::uint8_t* in = pixels_.data() + indices[i] * kPixels;
      for (std::size_t j = 0; j < kPixels; ++j)
        *out++ = static_cast<float>(in[j]) * (1.0F / 255.0F);
      labels.i64()[i] = labels_[indices[i]];
    }
    Batch batch;
    batch.emplace("pixels", std::move(pixels));
    batch.emplace("labels", std::move(labels));
    return batch;
  }

 private:
  DatasetInfo info_;
  std::vector<std::uint8_t> pixels_, labels_;
  std::vector<std::int32_t> hands_;
};

void check_glyphs(const config::Options& all) {
  const auto& options = dynamic_cast<const GlyphsOptions&>(all);
  if (options.hands * options.per_hand + options.test_per_class * options.classes > kImagesMax) {
    throw ConfigError("data.hands x data.per_hand, with the test images, is more than " +
                          std::to_string(kImagesMax) + " images",
                      "lower one of them");
  }
}

Source open_glyphs(const config::Options& given, const Rng& root) {
  const auto& options = dynamic_cast<const GlyphsOptions&>(given);
  if (options.classes_from + options.classes > static_cast<std::int64_t>(kGlyphs)) {
    throw ConfigError("data.classes_from + data.classes is " +
                      std::to_string(options.classes_from + options.classes) + ", there are " +
                      std::to_string(kGlyphs) + " glyphs");
  }
  const auto classes = static_cast<std::size_t>(options.classes);
  const auto first = static_cast<std::size_t>(options.classes_from);
  DatasetInfo info;
  info.input_shape = {1, kSide, kSide};
  for (std::size_t i = 0; i < classes; ++i)
    info.classes.push_back(std::string("glyph ") + static_cast<char>('a' + first + i));
  // Other glyphs are written by other hands: what a backbone has seen stays unseen by the clients.
  const Rng rng = root.stream("glyphs", options.classes_from);
  auto train = std::make_unique<Images>(info), test = std::make_unique<Images>(info);
  for (std::int64_t number = 0; number < options.hands; ++number) {
    const Hand hand(rng.stream("hand", number), classes);
    Rng ink = rng.stream("ink", number);
    for (std::int64_t i = 0; i < options.per_hand; ++i) {
      const auto at = std::ranges::lower_bound(hand.preference, ink.uniform_double());
      const auto label =
          std::min(static_cast<std::size_t>(at - hand.preference.begin()), classes - 1);
      train->add(glyph_shapes()[first + label], static_cast<std::int64_t>(label),
                 static_cast<std::int32_t>(number), hand, ink);
    }
  }
  for (std::int64_t i = 0; i < options.test_per_class * options.classes; ++i) {
    const auto label = static_cast<std::size_t>(i % options.classes);
    const std::int64_t number = i / options.classes % kTestHands;
    const Hand hand(rng.stream("test hand", number), classes);
    Rng ink = rng.stream("test ink", i);
    // Numbered on from the training hands: two people never share a name.
    test->add(glyph_shapes()[first + label], static_cast<std::int64_t>(label),
              static_cast<std::int32_t>(options.hands + number), hand, ink);
  }
  return {std::move(train), std::move(test)};
}

}  // namespace

DatasetEntry glyphs();
DatasetEntry glyphs() {
  return {{"glyphs", "images of stroked characters; a client is a hand; embedded", "",
           [] { return std::make_unique<GlyphsOptions>(); }},
          open_glyphs,
          check_glyphs};
}

}  // namespace fedctl::data
