// The Keyword Transformer against KWT-1's stored answers, and its file against damage.
#include <algorithm>
#include <cmath>

#include "data/safetensors.hpp"
#include "learn/torch/model_files.hpp"

using namespace fedctl;
using Catch::Matchers::Contains;

namespace {

data::DatasetInfo keywords(Shape input = {98, 40}) {
  data::DatasetInfo info;
  info.classes = {"_silence_", "_unknown_", "yes", "no",  "up",   "down",
                  "left",      "right",     "on",  "off", "stop", "go"};
  info.input_shape = std::move(input);
  return info;
}

std::unique_ptr<learn::Learner> kwt1(const std::string& path, data::DatasetInfo info,
                                     const std::string& adapter = "head") {
  return learn::make_factory(test::spec("kwt", adapter, std::move(info), path))->make();
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return largest;
}

// A model of width 8 for [5,6], with a front end for clips of 12 + 4 * 160 samples.
test::Values small_values() {
  test::Values values;
  const auto add = [&](const std::string& name, Shape shape) {
    const std::size_t count = element_count(shape);
    values[name] = {std::move(shape), test::random_values(count, Rng(3).stream(name), 0.5)};
  };
  add("patch.weight", {8, 6});
  add("patch.bias", {8});
  add("cls_token", {1, 1, 8});
  add("pos_embed", {1, 6, 8});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = "blocks." + std::to_string(layer) + '.';
    for (const char* name : {"attn.q", "attn.k", "attn.v", "attn.proj"}) {
      add(at + name + ".weight", {8, 8});
    }
    add(at + "attn.proj.bias", {8});
    add(at + "mlp.fc1.weight", {10, 8});
    add(at + "mlp.fc1.bias", {10});
    add(at + "mlp.fc2.weight", {8, 10});
    add(at + "mlp.fc2.bias", {8});
    for (const char* name : {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}) {
      add(at + name, {8});
    }
  }
  add("head.weight", {3, 8});
  add("head.bias", {3});
  add("frontend.window", {12});
  add("frontend.dft_real", {7, 12});
  add("frontend.dft_imag", {7, 12});
  add("frontend.mel", {4, 7});
  add("frontend.dct", {6, 4});
  values["frontend.log_floor"] = {{1}, {1e-6F}};
  return values;
}

void require_data_error(const std::string& path, const std::string& reason) {
  const learn::LearnerSpec spec = test::spec("kwt", "head", test::images({5, 6}), path);
  REQUIRE_THROWS_WITH(learn::make_factory(spec), Contains(reason));
  REQUIRE_THROWS_AS(learn::make_factory(spec), DataError);
}

}  // namespace

TEST_CASE("KWT-1 recognises 294 of 300 words, with the stored logits", "[learn][torch][kwt]") {
  const auto model = test::shared_data("models/kwt1/kwt1.safetensors");
  const auto words = test::shared_data("speech-commands-300/features.safetensors");
  if (!model || !words) {
    WARN("shared data is absent");
    return;
  }
  const auto file = data::Safetensors::open(*words);
  const data::Batch batch = {{"features", file.f32("mfcc")}, {"labels", file.i64("label12")}};
  const auto learner = kwt1(*model, keywords());
  CHECK(learner->evaluate(batch).correct == 294);
  const Tensor expected = file.f32("kwt1_logits"), logits = learner->logits(batch);
  CHECK(largest_difference(logits.f32(), expected.f32()) < 1e-3);
  // The folder says the same as the file.
  const auto folder = kwt1(model->substr(0, model->rfind('/')), keywords());
  CHECK(folder->logits(batch) == logits);
  CHECK(folder->base_digest() == learner->base_digest());
}

TEST_CASE("KWT-1's front end takes raw audio", "[learn][torch][kwt]") {
  const auto model = test::shared_data("models/kwt1/kwt1.safetensors");
  const auto clips = test::shared_data("speech-commands-300/golden_wave_10.safetensors");
  if (!model || !clips) {
    WARN("shared data is absent");
    return;
  }
  const auto file = data::Safetensors::open(*clips);
  const Tensor pcm = file.i64("pcm16");
  Tensor audio = Tensor::zeros(DType::f32, pcm.shape);
  for (std::size_t i = 0; i < pcm.i64().size(); ++i) {
    audio.f32()[i] = static_cast<float>(pcm.i64()[i]) / 32768.0F;
  }
  const auto raw = kwt1(*model, keywords({16000}));
  const Tensor logits = raw->logits({{"features", audio}});
  CHECK(largest_difference(logits.f32(), file.f32("kwt1_logits").f32()) < 1e-3);
  // The features themselves: what embed makes of audio is what it makes of the stored MFCC.
  const auto features = kwt1(*model, keywords());
  const Tensor heard = raw->forward("embed", {{"features", audio}}).at("rows");
  const Tensor read = features->forward("embed", {{"features", file.f32("mfcc")}}).at("rows");
  CHECK(largest_difference(heard.f32(), read.f32()) < 1e-3);
}

TEST_CASE("other classes than the labels give a fresh head", "[learn][torch][kwt]") {
  const test::Folder folder;
  const std::string path = folder.file("words.safetensors");
  test::write_file(path, test::safetensors(small_values(), "F32"));
  const data::DatasetInfo info = test::images({5, 6});
  const auto weights = [&] {
    return test::copy(kwt1(path, info)->weights());  // the head
  };
  const std::vector<float> expected = small_values().at("head.weight").second;
  const std::vector<float> fresh = weights();
  CHECK(fresh[0] != expected[0]);
  test::write_file(folder.file("labels.txt"), "cat\ndog\r\nowl\n");
  const std::vector<float> stored = weights();
  CHECK(std::vector<float>(stored.begin(), stored.begin() + 24) == expected);
  test::write_file(folder.file("labels.txt"), "dog\ncat\nowl\n");
  CHECK(weights() == fresh);
}

TEST_CASE("a saved Keyword Transformer keeps its front end", "[learn][torch][kwt]") {
  const test::Folder folder;
  const std::string path = folder.file("words.safetensors");
  test::write_file(path, test::safetensors(small_values(), "F32"));
  const std::string adapter = GENERATE("full", "head");
  const auto learner = kwt1(path, test::images({5, 6}), adapter);
  test::disturb(*learner);
  learner->save_adapter(folder.file("saved"), {});
  // 12 + 4 * 160 samples make 5 frames.
  const data::DatasetInfo raw = test::images({652});
  const auto again = kwt1(folder.file("saved"), raw, "lora");
  const data::Batch batch = test::image_batch(raw, 2);
  const auto before = kwt1(path, raw, adapter);
  std::ranges::copy(learner->weights(), before->weights().begin());
  CHECK(again->logits(batch) == before->logits(batch));
  // The front end never trains and is no parameter, but both sides must have the same.
  CHECK(before->base_parameters() == (adapter == "full" ? 0U : 1060U));
  test::Values other = small_values();
  other.at("frontend.mel").second[0] += 1;
  test::write_file(path, test::safetensors(other, "F32"));
  CHECK(kwt1(path, raw, adapter)->base_digest() != before->base_digest());
}

TEST_CASE("inputs that a Keyword Transformer does not take are refused", "[learn][torch][kwt]") {
  const test::Folder folder;
  const std::string path = folder.file("words.safetensors");
  test::write_file(path, test::safetensors(small_values(), "F32"));
  const auto require = [](const learn::LearnerSpec& spec, const std::string& reason) {
    REQUIRE_THROWS_WITH(learn::make_factory(spec), Contains(reason));
    REQUIRE_THROWS_AS(learn::make_factory(spec), ConfigError);
  };
  require(test::spec("kwt", "lora", test::images({5, 7}), path), "are [5,7], expected the model's");
  require(test::spec("kwt", "lora", test::images({651}), path), "5 frames, these make 4");
  require(test::spec("kwt", "lora", test::images({11}), path), "these make 0");
  require(test::spec("kwt", "lora", test::images({652})), "expected [frames,coefficients]");
  require(test::spec("kwt", "lora", test::images({1, 5, 6})), "or [samples]");
  require(test::spec("kwt", "lora", test::texts()), "no classes");
  learn::LearnerSpec heads = test::spec("kwt", "lora", test::images({5, 6}));
  dynamic_cast<learn::KwtOptions&>(*heads.model.options).heads = 5;
  require(heads, "must divide the width, 12");
  test::Values deaf = small_values();
  std::erase_if(deaf, [](const auto& tensor) { return tensor.first.starts_with("frontend."); });
  test::write_file(path, test::safetensors(deaf, "F32"));
  require(test::spec("kwt", "lora", test::images({652}), path), "has no front end");
}

TEST_CASE("damaged Keyword Transformer files are refused", "[learn][torch][kwt][files]") {
  const test::Folder folder;
  const std::string path = folder.file("words.safetensors");
  const auto write = [&](const std::function<void(test::Values&)>& damage) {
    test::Values values = small_values();
    damage(values);
    test::write_file(path, test::safetensors(values, "F32"));
  };
  require_data_error(folder.path(), "holds 0 .safetensors files");
  for (const char* name : {"patch.weight", "pos_embed", "blocks.0.mlp.fc1.weight",
                           "blocks.1.norm2.bias", "cls_token", "frontend.dft_real"}) {
    write([&](test::Values& values) { values.erase(name); });
    require_data_error(path, "has no tensor \"" + std::string(name));
  }
  write([](test::Values& values) { values.at("pos_embed").first = {6, 8}; });
  require_data_error(path, "\"pos_embed\" is [6,8], expected 3 axes");
  write([](test::Values& values) { values["pos_embed"] = {{1, 1, 8}, std::vector<float>(8)}; });
  require_data_error(path, "words.safetensors: num_frames is 0");
  write([](test::Values& values) { values.at("frontend.mel").first = {7, 4}; });
  require_data_error(path, "frontend.mel");
  write([](test::Values& values) { values.at("patch.bias").second[3] = NAN; });
  require_data_error(path, "patch.bias");
  write([](test::Values& values) {
    std::erase_if(values, [](const auto& tensor) { return tensor.first.starts_with("blocks.1."); });
    values["blocks.00.attn.q.weight"] = {{8, 8}, std::vector<float>(64)};
  });
  REQUIRE_NOTHROW(kwt1(path, test::images({5, 6})));  // one block; a tensor more is no fault
  write([](test::Values&) {});
  const std::string whole = test::read_file(path);
  test::write_file(path, whole.substr(0, whole.size() - 1));
  require_data_error(path, "words.safetensors");
  test::write_file(path, whole);
  test::write_file(folder.file("labels.txt"), "cat\ndog\nowl\n");
  REQUIRE_NOTHROW(kwt1(folder.path(), test::images({5, 6})));
  test::write_file(folder.file("more.safetensors"), whole);
  require_data_error(folder.path(), "holds 2 .safetensors files");
}
