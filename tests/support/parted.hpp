// A tiny classifier in parts, for tests of methods that cut a model: an example is `tokens` rows of
// `width` numbers behind `prompts` trained ones; a block mixes the rows of an example and bends
// them; the head, trained too, reads the mean row, or the first one alone.
#pragma once

#include <cmath>

#include "support/play.hpp"

namespace fedctl::test {

class Parted final : public learn::Learner {
 public:
  struct Sizes {
    std::int64_t tokens = 3, prompts = 2, width = 4, classes = 3, blocks = 3;
    bool first_only = false;     // the head reads the first row; then it is no prompt
    bool identity_body = false;  // blocks from the second on change nothing
  };
  explicit Parted(Sizes shape) : shape_(shape) {
    layout_.add("prompt", "prompt", {shape.prompts, shape.width});
    layout_.add("classifier", "head", {shape.classes, shape.width});
    weights_.resize(layout_.size());
    gradient_.resize(layout_.size());
    Rng rng(7);
    for (float& value : weights_) value = static_cast<float>(0.3 * rng.normal());
  }

  const Layout& layout() const override { return layout_; }
  std::span<float> weights() override { return weights_; }
  std::span<float> gradient() override { return gradient_; }
  std::vector<std::string> parts() const override {
    std::vector<std::string> names = {"embed"};
    for (std::int64_t i = 0; i < shape_.blocks; ++i) names.push_back("block." + std::to_string(i));
    names.emplace_back("head");
    return names;
  }

  TensorMap forward(std::string_view part, const TensorMap& inputs) override {
    if (part == "embed") return embed(inputs);
    check(part, inputs);
    calls_.insert_or_assign(std::string(part), inputs);
    if (part == "head") return {{"logits", head(inputs)}};
    TensorMap out = inputs;
    if (!passes(part)) {
      each(inputs, [&](std::size_t row, std::size_t from, std::size_t count) {
        for (std::size_t i = 0; i < width(); ++i) {
          double mean = 0;
          for (std::size_t r = from; r < from + count; ++r) mean += at(inputs, r, i);
          out.at("rows").f32()[row * width() + i] =
              std::tanh(at(inputs, row, i) + static_cast<float>(mean / static_cast<double>(count)));
        }
      });
    }
    const bool last = part == "block." + std::to_string(shape_.blocks - 1);
    return last && shape_.first_only ? firsts(out) : out;
  }

  TensorMap backward(std::string_view part, const TensorMap& slopes) override {
    if (part == "embed") return embed_back(slopes.at("rows"));
    const TensorMap inputs = calls_.extract(calls_.find(part)).mapped();
    if (part == "head") return {{"rows", head_back(inputs, slopes.at("logits"))}};
    Tensor given = slopes.at("rows");
    const bool last = part == "block." + std::to_string(shape_.blocks - 1);
    if (last && shape_.first_only) given = spread(given, inputs);
    if (given.shape != inputs.at("rows").shape) throw DataError("slopes of another shape");
    if (passes(part)) return {{"rows", given}};
    Tensor back = Tensor::zeros(DType::f32, given.shape);
    each(inputs, [&](std::size_t row, std::size_t from, std::size_t count) {
      for (std::size_t i = 0; i < width(); ++i) {
        double mean = 0;
        for (std::size_t r = from; r < from + count; ++r) mean += at(inputs, r, i);
        const float out =
            std::tanh(at(inputs, row, i) + static_cast<float>(mean / static_cast<double>(count)));
        const float inner = given.f32()[row * width() + i] * (1 - out * out);
        back.f32()[row * width() + i] += inner;
        for (std::size_t r = from; r < from + count; ++r) {
          back.f32()[r * width() + i] += inner / static_cast<float>(count);
        }
      }
    });
    return {{"rows", back}};
  }

  Tensor logits(const data::Batch& batch) override {
    TensorMap state = batch;
    for (const std::string& part : parts()) state = forward(part, state);
    return state.at("logits");
  }
  double loss(const data::Batch& batch) override {
    const learn::Scores scores = evaluate(batch);
    return scores.loss_sum / static_cast<double>(scores.count);
  }
  learn::Scores evaluate(const data::Batch& batch) override {
    const Tensor found = logits(batch);
    learn::Scores scores;
    const auto labels = batch.at("labels").i64();
    const auto classes = static_cast<std::size_t>(shape_.classes);
    for (std::size_t row = 0; row < labels.size(); ++row) {
      const auto one = found.f32().subspan(row * classes, classes);
      double sum = 0;
      for (const float value : one) sum += std::exp(static_cast<double>(value));
      const auto label = static_cast<std::size_t>(labels[row]);
      scores += {std::log(sum) - static_cast<double>(one[label]),
                 std::ranges::max_element(one) - one.begin() == labels[row] ? 1 : 0, 1};
    }
    return scores;
  }
  // The whole, by its parts.
  double loss_and_gradient(const data::Batch& batch) override {
    const double mean = loss(batch);
    TensorMap slopes = {{"logits", logits(batch)}};
    Tensor& by_logits = slopes.at("logits");
    const auto labels = batch.at("labels").i64();
    const auto classes = static_cast<std::size_t>(shape_.classes);
    for (std::size_t row = 0; row < labels.size(); ++row) {
      const auto one = by_logits.f32().subspan(row * classes, classes);
      double sum = 0;
      for (const float value : one) sum += std::exp(static_cast<double>(value));
      for (std::size_t i = 0; i < classes; ++i) {
        const double hit = static_cast<std::int64_t>(i) == labels[row] ? 1 : 0;
        one[i] = static_cast<float>((std::exp(static_cast<double>(one[i])) / sum - hit) /
                                    static_cast<double>(labels.size()));
      }
    }
    std::ranges::fill(gradient_, 0.0F);
    const std::vector<std::string> names = parts();
    for (std::size_t i = names.size(); i-- > 0;) slopes = backward(names[i], slopes);
    return mean;
  }

  learn::AdapterFiles adapter_files() override { return {}; }
  void load_adapter(const std::string&) override {}
  void save_merged(const std::string&, const std::map<std::string, std::string>&,
                   data::Storage) override {}
  std::string base_digest() const override { return ""; }
  std::size_t base_parameters() const override { return 0; }

 private:
  std::size_t width() const { return static_cast<std::size_t>(shape_.width); }
  std::size_t length() const { return static_cast<std::size_t>(shape_.tokens + shape_.prompts); }
  bool passes(std::string_view part) const { return shape_.identity_body && part != "block.0"; }
  float at(const TensorMap& state, std::size_t row, std::size_t i) const {
    return state.at("rows").f32()[row * width() + i];
  }
  // Calls with each row, and the first row and number of rows of its example.
  template <class Do>
  void each(const TensorMap& state, const Do& with) const {
    std::size_t from = 0;
    for (const std::int64_t count : state.at("lengths").i64()) {
      const auto rows = static_cast<std::size_t>(count);
      for (std::size_t row = from; row < from + rows; ++row) with(row, from, rows);
      from += rows;
    }
  }
  void check(std::string_view part, const TensorMap& inputs) const {
    const bool one = part == "head" && shape_.first_only;
    const auto wanted = one ? std::int64_t{1} : static_cast<std::int64_t>(length());
    for (const std::int64_t count : inputs.at("lengths").i64()) {
      if (count != wanted) throw DataError("an example has another number of rows");
    }
    if (inputs.at("rows").shape[1] != shape_.width) throw DataError("rows of another width");
  }
  // The first token in front of the prompt, as a class token would be: the same for all examples if
  // the head reads the first row.
  TensorMap embed(const TensorMap& batch) const {
    const auto features = batch.at("features").f32();
    const auto tokens = static_cast<std::size_t>(shape_.tokens);
    const std::size_t n = features.size() / (tokens * width());
    Tensor rows =
        Tensor::zeros(DType::f32, {static_cast<std::int64_t>(n * length()), shape_.width});
    auto to = rows.f32().begin();
    for (std::size_t example = 0; example < n; ++example) {
      const auto own = features.subspan(example * tokens * width(), tokens * width());
      if (shape_.first_only) {
        to = std::fill_n(to, width(), 0.5F);
      } else {
        to = std::ranges::copy(own.first(width()), to).out;
      }
      to = std::ranges::copy(std::span(weights_).first(prompt_size()), to).out;
      to = std::ranges::copy(own.subspan(width()), to).out;
    }
    const std::vector<std::int64_t> lengths(n, static_cast<std::int64_t>(length()));
    return {{"rows", std::move(rows)},
            {"lengths", Tensor::of(std::span<const std::int64_t>(lengths), {})}};
  }
  std::size_t prompt_size() const { return static_cast<std::size_t>(shape_.prompts) * width(); }
  TensorMap embed_back(const Tensor& slopes) {
    const std::size_t n = slopes.f32().size() / (length() * width());
    for (std::size_t example = 0; example < n; ++example) {
      for (std::size_t i = 0; i < prompt_size(); ++i) {
        gradient_[i] += slopes.f32()[(example * length() + 1) * width() + i];
      }
    }
    return {};
  }
  // Mean row of each example.
  std::vector<float> pooled(const TensorMap& state) const {
    std::vector<float> means(state.at("lengths").i64().size() * width());
    std::size_t example = 0;
    each(state, [&](std::size_t row, std::size_t from, std::size_t count) {
      for (std::size_t i = 0; i < width(); ++i) {
        means[example * width() + i] += at(state, row, i) / static_cast<float>(count);
      }
      if (row + 1 == from + count) ++example;
    });
    return means;
  }
  Tensor head(const TensorMap& state) const {
    const std::vector<float> means = pooled(state);
    const std::size_t n = means.size() / width();
    Tensor out = Tensor::zeros(DType::f32, {static_cast<std::int64_t>(n), shape_.classes});
    for (std::size_t k = 0; k < out.f32().size(); ++k) {
      const std::size_t example = k / static_cast<std::size_t>(shape_.classes);
      const std::size_t which = k % static_cast<std::size_t>(shape_.classes);
      for (std::size_t i = 0; i < width(); ++i) {
        out.f32()[k] +=
            weights_[prompt_size() + which * width() + i] * means[example * width() + i];
      }
    }
    return out;
  }
  Tensor head_back(const TensorMap& state, const Tensor& slopes) {
    const std::vector<float> means = pooled(state);
    Tensor back = Tensor::zeros(DType::f32, state.at("rows").shape);
    const auto classes = static_cast<std::size_t>(shape_.classes);
    for (std::size_t k = 0; k < slopes.f32().size(); ++k) {
      for (std::size_t i = 0; i < width(); ++i) {
        gradient_[prompt_size() + k % classes * width() + i] +=
            slopes.f32()[k] * means[k / classes * width() + i];
      }
    }
    std::size_t example = 0;
    each(state, [&](std::size_t row, std::size_t from, std::size_t count) {
      for (std::size_t k = 0; k < classes; ++k) {
        for (std::size_t i = 0; i < width(); ++i) {
          back.f32()[row * width() + i] += slopes.f32()[example * classes + k] *
                                           weights_[prompt_size() + k * width() + i] /
                                           static_cast<float>(count);
        }
      }
      if (row + 1 == from + count) ++example;
    });
    return back;
  }
  TensorMap firsts(const TensorMap& state) const {
    const std::size_t n = state.at("lengths").i64().size();
    Tensor rows = Tensor::zeros(DType::f32, {static_cast<std::int64_t>(n), shape_.width});
    for (std::size_t e = 0; e < n; ++e) {
      for (std::size_t i = 0; i < width(); ++i) {
        rows.f32()[e * width() + i] = at(state, e * length(), i);
      }
    }
    const std::vector<std::int64_t> ones(n, 1);
    return {{"rows", std::move(rows)},
            {"lengths", Tensor::of(std::span<const std::int64_t>(ones), {})}};
  }
  Tensor spread(const Tensor& slopes, const TensorMap& inputs) const {
    Tensor all = Tensor::zeros(DType::f32, inputs.at("rows").shape);
    const std::size_t n = inputs.at("lengths").i64().size();
    for (std::size_t e = 0; e < n; ++e) {
      for (std::size_t i = 0; i < width(); ++i) {
        all.f32()[e * length() * width() + i] = slopes.f32()[e * width() + i];
      }
    }
    return all;
  }

  Sizes shape_;
  Layout layout_;
  std::vector<float> weights_, gradient_;
  std::map<std::string, TensorMap, std::less<>> calls_;
};

// Examples around a centre for each class; a client has more of some classes.
class PartedProblem {
 public:
  explicit PartedProblem(Parted::Sizes shape = {}, std::int64_t clients = 6,
                         std::int64_t per_client = 9)
      : data_(shape, clients * per_client) {
    struct Factory final : learn::LearnerFactory {
      explicit Factory(Parted::Sizes shape_) : shape(shape_) {}
      std::unique_ptr<learn::Learner> make() override { return std::make_unique<Parted>(shape); }
      Parted::Sizes shape;
    };
    pool_ = std::make_unique<learn::LearnerPool>(std::make_unique<Factory>(shape), 2);
    game_.learners = pool_.get();
    game_.data = &data_;
    for (std::int64_t id = 0; id < clients; ++id) {
      std::vector<std::size_t>& share = game_.shares.emplace_back();
      for (std::int64_t i = 0; i < per_client; ++i) {
        share.push_back(static_cast<std::size_t>(id * per_client + i));
      }
    }
    methods::JobPlan& plan = game_.plan;
    plan.rounds = 6;
    plan.clients = plan.per_round = clients;
    plan.quorum = 0.5;
    plan.train.batch_size = 4;
    plan.train.optimizer =
        config::make_plugin(learn::optimizer_kinds(), "sgd", {{"lr", 0.5}, {"momentum", 0}});
    learn::LearnerPool::Lease learner = pool_->acquire();
    plan.layout = learner->layout();
    plan.initial.assign(learner->weights().begin(), learner->weights().end());
  }
  Game game(const std::string& method, const std::map<std::string, double>& options = {}) const {
    Game game = game_;
    game.method = config::make_plugin(methods::method_kinds(), method, options);
    return game;
  }
  // Mean loss of all examples.
  double loss(std::span<const float> weights) const {
    learn::LearnerPool::Lease learner = pool_->acquire();
    std::ranges::copy(weights, learner->weights().begin());
    std::vector<std::size_t> all;
    for (const auto& share : game_.shares) all.insert(all.end(), share.begin(), share.end());
    return learner->loss(data_.gather(all));
  }

 private:
  class Data final : public data::Dataset {
   public:
    Data(Parted::Sizes shape, std::int64_t count) : shape_(shape) {
      for (std::int64_t k = 0; k < shape.classes; ++k) info_.classes.push_back(std::to_string(k));
      Rng rng(3);
      const std::int64_t size = shape.tokens * shape.width;
      std::vector<double> centres;
      for (std::int64_t i = 0; i < size * shape.classes; ++i) centres.push_back(rng.normal());
      for (std::int64_t e = 0; e < count; ++e) {
        const std::int64_t label = (e + e / 5) % shape.classes;
        labels_.push_back(label);
        for (std::int64_t i = 0; i < size; ++i) {
          features_.push_back(static_cast<float>(
              centres[static_cast<std::size_t>(label * size + i)] + 0.2 * rng.normal()));
        }
      }
    }
    const data::DatasetInfo& info() const override { return info_; }
    std::size_t size() const override { return labels_.size(); }
    std::int64_t label(std::size_t index) const override { return labels_[index]; }
    std::size_t length(std::size_t) const override { return 1; }
    std::string field(std::size_t) const override { return ""; }
    data::Batch gather(std::span<const std::size_t> indices) const override {
      const auto size = static_cast<std::size_t>(shape_.tokens * shape_.width);
      std::vector<float> features;
      std::vector<std::int64_t> labels;
      for (const std::size_t index : indices) {
        const auto own = std::span(features_).subspan(index * size, size);
        features.insert(features.end(), own.begin(), own.end());
        labels.push_back(labels_[index]);
      }
      return {{"features", Tensor::of(std::span<const float>(features), {})},
              {"labels", Tensor::of(std::span<const std::int64_t>(labels), {})}};
    }

   private:
    Parted::Sizes shape_;
    data::DatasetInfo info_;
    std::vector<float> features_;
    std::vector<std::int64_t> labels_;
  };

  Data data_;
  std::unique_ptr<learn::LearnerPool> pool_;
  Game game_;
};

}  // namespace fedctl::test
