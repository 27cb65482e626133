#include "learn/torch/families/families.hpp"

namespace fedctl::learn {
namespace {

std::string kind_and_shape(const Tensor& tensor) {
  return std::string(dtype_name(tensor.dtype)) + to_string(tensor.shape);
}

// Throws DataError unless `tensor` is of this kind and shape and its bytes are all there.
void require_tensor(const Tensor& tensor, const std::string& what, DType dtype,
                    const Shape& shape) {
  if (tensor.dtype != dtype || tensor.shape != shape) {
    throw DataError("the batch's " + what + " are " + kind_and_shape(tensor) + ", expected " +
                    dtype_name(dtype) + to_string(shape));
  }
  if (tensor.bytes.size() != element_count(shape) * element_bytes(dtype)) {
    throw DataError("the batch's " + what + " are " + kind_and_shape(tensor) + " in " +
                    std::to_string(tensor.bytes.size()) + " bytes");
  }
}

void require_range(const Tensor& tensor, const char* what, std::int64_t end, bool may_ignore) {
  for (const std::int64_t value : tensor.i64()) {
    if ((value >= 0 && value < end) || (may_ignore && value == data::kIgnore)) continue;
    throw DataError(std::string(what) + ' ' + std::to_string(value) + " is not in [0, " +
                    std::to_string(end) + ')');
  }
}

}  // namespace

std::unique_ptr<Family> make_family(const LearnerSpec& spec, Builder& builder,
                                    const Checkpoint* file) {
#define TORCH_FAMILY(name) \
  if (spec.model.kind == #name) return make_##name(spec, builder, file);
#define PLAIN_FAMILY(name)
#include "learn/families.def"
#undef TORCH_FAMILY
#undef PLAIN_FAMILY
  throw ConfigError("model.kind " + spec.model.kind + " is not built on LibTorch");
}

void require_images(const LearnerSpec& spec, std::size_t rank) {
  const std::string both = "model.kind is " + spec.model.kind + " and data.kind's ";
  if (spec.data.task != data::Task::classify || spec.data.classes.empty()) {
    throw ConfigError(both + "examples have no classes: they do not fit together",
                      "fedctl list datasets");
  }
  const Shape& shape = spec.data.input_shape;
  if (shape.empty() || (rank != 0 && shape.size() != rank) || element_count(shape) == 0) {
    throw ConfigError(both + "inputs are " + (shape.empty() ? "tokens" : to_string(shape)) +
                      ", expected " + (rank == 0 ? "numbers" : "[channels,height,width]"));
  }
}

void require_text(const LearnerSpec& spec, data::Task task) {
  const bool classes = task != data::Task::classify || !spec.data.classes.empty();
  if (spec.data.task == task && spec.data.vocabulary >= 1 && classes) return;
  throw ConfigError("model.kind is " + spec.model.kind + ", but data.kind's examples are no text " +
                        (task == data::Task::language ? "to continue" : "with classes"),
                    "fedctl list datasets");
}

void require_vocabulary(const LearnerSpec& spec, std::int64_t vocabulary) {
  if (spec.data.vocabulary <= vocabulary) return;
  const std::string& path = dynamic_cast<const ModelOptions&>(*spec.model.options).path;
  throw DataError(path + ": knows " + std::to_string(vocabulary) +
                      " tokens, the data's tokenizer has " + std::to_string(spec.data.vocabulary) +
                      " tokens",
                  "tokenizer and model must belong together");
}

void require_heads(const LearnerSpec& spec, const Checkpoint* file, std::int64_t width,
                   std::int64_t heads) {
  if (width % heads == 0) return;
  const std::string what =
      "heads is " + std::to_string(heads) + ", must divide the width, " + std::to_string(width);
  if (file != nullptr) {
    throw DataError(file->path() + "/config.json: the number of " + what,
                    "it is no model of kind " + spec.model.kind);
  }
  throw ConfigError("model." + what);
}

const Tensor& image_of(const data::Batch& batch) {
  for (const char* name : {"pixels", "features"}) {
    const auto found = batch.find(name);
    if (found != batch.end()) return found->second;
  }
  throw DataError("the batch has neither pixels nor features", "this model does not read text");
}

void check_images(const data::Batch& batch, const data::DatasetInfo& info) {
  const Tensor& image = image_of(batch);
  if (image.shape.empty() || image.shape[0] < 1) {
    throw DataError("the batch's inputs are " + kind_and_shape(image) + ": no example in them");
  }
  Shape expected = info.input_shape;
  expected.insert(expected.begin(), image.shape[0]);
  require_tensor(image, "inputs", DType::f32, expected);
  check_classes(batch, image.shape[0], info.classes.size());
}

void check_classes(const data::Batch& batch, std::int64_t count, std::size_t classes) {
  const auto labels = batch.find("labels");
  if (labels == batch.end()) return;
  require_tensor(labels->second, "labels", DType::i64, {count});
  require_range(labels->second, "label", static_cast<std::int64_t>(classes), false);
}

void check_tokens(const data::Batch& batch, std::int64_t vocabulary, std::int64_t longest) {
  const auto found = batch.find("tokens");
  if (found == batch.end()) throw DataError("the batch has no tokens", "this model reads text");
  const Tensor& tokens = found->second;
  require_tensor(tokens, "tokens", DType::i64,
                 {static_cast<std::int64_t>(element_count(tokens.shape))});
  require_range(tokens, "token", vocabulary, false);
  const auto lengths = batch.find("lengths");
  if (lengths == batch.end()) throw DataError("the batch has no lengths beside its tokens");
  require_tensor(lengths->second, "lengths", DType::i64,
                 {static_cast<std::int64_t>(element_count(lengths->second.shape))});
  std::int64_t left = tokens.shape[0];
  for (const std::int64_t length : lengths->second.i64()) {
    if (length > longest) {
      throw DataError("a sequence has " + std::to_string(length) +
                          " tokens, the model and its prompt leave room for " +
                          std::to_string(longest),
                      "cut the texts shorter");
    }
    if (length < 1 || length > left) {
      throw DataError("the batch's lengths are not those of its " +
                      std::to_string(tokens.shape[0]) + " tokens: " + std::to_string(length) +
                      " where " + std::to_string(left) + " are left");
    }
    left -= length;
  }
  if (left != 0 || tokens.shape[0] == 0) {
    throw DataError("the batch's lengths leave " + std::to_string(left) + " of its " +
                    std::to_string(tokens.shape[0]) + " tokens over");
  }
  const auto segments = batch.find("segments");
  if (segments == batch.end()) return;
  require_tensor(segments->second, "segments", DType::i64, tokens.shape);
  require_range(segments->second, "segment", 2, false);
}

void check_next_tokens(const data::Batch& batch, std::int64_t vocabulary) {
  const auto labels = batch.find("labels");
  if (labels == batch.end()) return;
  require_tensor(labels->second, "labels", DType::i64, batch.at("tokens").shape);
  require_range(labels->second, "label", vocabulary, true);
}

std::vector<std::int64_t> lengths_of(const data::Batch& batch) {
  const std::span<const std::int64_t> lengths = batch.at("lengths").i64();
  return {lengths.begin(), lengths.end()};
}

at::Tensor positions_of(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> positions;
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) positions.push_back(i);
  }
  return at::tensor(positions);
}

at::Tensor first_rows(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> rows;
  std::int64_t row = 0;
  for (const std::int64_t length : lengths) {
    rows.push_back(row);
    row += length;
  }
  return at::tensor(rows);
}

namespace {

void require_room(std::int64_t tokens, std::int64_t context) {
  if (tokens < context) return;
  throw ConfigError("adapter.tokens is " + std::to_string(tokens) + ", the model's context has " +
                    std::to_string(context));
}

}  // namespace

Prefix make_prefix(Builder& builder, std::int64_t depth, std::int64_t heads, std::int64_t width,
                   std::int64_t context) {
  require_room(builder.adapter().prefix_tokens(), context);
  return builder.prefix(depth, heads, width);
}

at::Tensor make_text_prompt(Builder& builder, const at::Tensor& embedding, std::int64_t context) {
  const std::int64_t tokens = builder.adapter().prompt_tokens();
  if (tokens == 0) return {};
  require_room(tokens, context);
  const std::string name = "prompt_embeddings";
  Rng rng = builder.stream(name);
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < tokens; ++i) {
    rows.push_back(
        static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(embedding.size(0)))));
  }
  return builder.trainable(name, "prompt", at::embedding(embedding, at::tensor(rows)));
}

at::Tensor put_in_front(const at::Tensor& prompt, const at::Tensor& rows,
                        std::vector<std::int64_t>& lengths) {
  std::vector<at::Tensor> parts;
  std::int64_t row = 0;
  for (std::int64_t& length : lengths) {
    parts.push_back(prompt);
    parts.push_back(rows.narrow(0, row, length));
    row += length;
    length += prompt.size(0);
  }
  return at::cat(parts);
}

at::Tensor take_behind(std::int64_t tokens, const at::Tensor& rows,
                       std::vector<std::int64_t>& lengths) {
  std::vector<at::Tensor> parts;
  std::int64_t row = 0;
  for (std::int64_t& length : lengths) {
    parts.push_back(rows.narrow(0, row + tokens, length - tokens));
    row += length;
    length -= tokens;
  }
  return at::cat(parts);
}

}  // namespace fedctl::learn
