// safetensors: rows of a features tensor, with a tensor of labels beside it. The features stay in
// the mapped file; a row is widened when it is gathered.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <numeric>
#include <optional>

#include "base/errors.hpp"
#include "data/detail/file.hpp"
#include "data/registry.hpp"
#include "data/safetensors.hpp"

namespace fedctl::data {
namespace {

// A class is an output of the model: more than this many is a tensor of something else.
constexpr std::int64_t kClassesMax = 65536;
constexpr std::int64_t kUnset = -1;

struct TensorsOptions final : config::Options {
  std::string path;
  std::string features = "features", labels = "labels", client;
  std::string label_names, client_names;
  std::string test_tensor;
  std::int64_t test_below = kUnset, test_equals = kUnset;
  double scale = 1;
  void fields(config::Fields& fields) override {
    fields.text("path", path, {.kind = "a path", .required = true},
                "the file, or a folder with train.safetensors and test.safetensors");
    fields.text("features", features, {.kind = "a tensor"},
                "tensor of the inputs, [n,...], any number type");
    fields.text("labels", labels, {.kind = "a tensor"},
                "tensor of the classes, [n], integers from 0");
    fields.text("client", client, {.kind = "a tensor"},
                "tensor of the owners, [n], integers; empty: none");
    fields.text("label_names", label_names, {.kind = "a key"},
                "metadata entry with the class names, a,b,c; empty: the tensor's name and \"s\", "
                "if there is such an entry");
    fields.text("client_names", client_names, {.kind = "a key"}, "the same for the owners");
    fields.text("test_tensor", test_tensor, {.kind = "a tensor"},
                "tensor, [n], integers, that marks the test part: rows not 0, or as below");
    fields.integer("test_below", test_below, {kUnset, 1'000'000'000},
                   "rows of test_tensor below this are the test part; -1: not used");
    fields.integer("test_equals", test_equals, {kUnset, 1'000'000'000},
                   "rows of test_tensor equal to this are the test part; -1: not used");
    fields.real("scale", scale, {.above = 0, .max = 1e9}, "factor on the inputs");
  }
};

using Names = std::optional<std::vector<std::string>>;

// One opened file: what train and test part share.
struct Store {
  std::string path;
  Safetensors file;
  Safetensors::RowView rows;
  std::size_t row_size = 1;
  std::vector<std::int64_t> labels, owners;  // owners: empty if there are none
  Names class_names, owner_names;
  TensorsOptions options;

  [[noreturn]] void fail(const std::string& what, const std::string& hint) const {
    throw DataError(path + ": " + what, hint);
  }
  std::string owner(std::size_t row) const {
    if (owners.empty()) return "";
    if (owner_names) return (*owner_names)[static_cast<std::size_t>(owners[row])];
    return options.client + ' ' + std::to_string(owners[row]);
  }
};

class Tensors final : public Dataset {
 public:
  Tensors(std::shared_ptr<const Store> store, std::vector<std::size_t> rows, DatasetInfo info)
      : store_(std::move(store)), rows_(std::move(rows)), info_(std::move(info)) {}

  const DatasetInfo& info() const override { return info_; }
  std::size_t size() const override { return rows_.size(); }
  std::int64_t label(std::size_t index) const override { return store_->labels[rows_[index]]; }
  std::size_t length(std::size_t) const override { return 1; }
  std::string field(std::size_t index) const override { return store_->owner(rows_[index]); }

  Batch gather(std::span<const std::size_t> indices) const override {
    Shape shape{static_cast<std::int64_t>(indices.size())};
    shape.insert(shape.end(), info_.input_shape.begin(), info_.input_shape.end());
    Tensor inputs = Tensor::zeros(DType::f32, shape);
    Tensor labels = Tensor::zeros(DType::i64, {shape[0]});
    const auto scale = static_cast<float>(store_->options.scale);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::size_t row = rows_[indices[i]];
      const std::span<float> out = inputs.f32().subspan(i * store_->row_size, store_->row_size);
      store_->rows.widen_row(row, out);
      for (std::size_t j = 0; j < out.size(); ++j) {
        out[j] *= scale;
        if (!std::isfinite(out[j])) {
          store_->fail("tensor \"" + store_->options.features + "\", row " + std::to_string(row) +
                           ": value " + std::to_string(j) + " is not finite",
                       "leave such rows out of the file");
        }
      }
      labels.i64()[i] = label(indices[i]);
    }
    Batch batch;
    batch.emplace(info_.input_shape.size() == 3 ? "pixels" : "features", std::move(inputs));
    batch.emplace("labels", std::move(labels));
    return batch;
  }

 private:
  std::shared_ptr<const Store> store_;
  std::vector<std::size_t> rows_;
  DatasetInfo info_;
};

// The entry `given` of the metadata cut at commas; without one, that of `tensor` and "s".
Names names_from(const Safetensors& file, const std::string& path, const std::string& given,
                 const std::string& tensor) {
  const auto& metadata = file.metadata();
  const auto found = metadata.find(given.empty() ? tensor + 's' : given);
  if (found == metadata.end()) {
    if (given.empty()) return std::nullopt;
    throw DataError(path + ": no metadata entry \"" + given + '"',
                    "names are a list a,b,c in the file's __metadata__");
  }
  std::vector<std::string> names;
  for (std::size_t at = 0; at <= found->second.size();) {
    const std::size_t end = std::min(found->second.find(',', at), found->second.size());
    names.push_back(found->second.substr(at, end - at));
    at = end + 1;
  }
  return names;
}

// A tensor of one integer a row.
std::vector<std::int64_t> column(const Store& store, const std::string& name) {
  const Shape& shape = store.file.shape(name);
  const auto rows = static_cast<std::int64_t>(store.rows.count);
  if (shape != Shape{rows}) {
    store.fail("tensor \"" + name + "\" is " + to_string(shape) + ", \"" + store.options.features +
                   "\" has " + std::to_string(rows) + " rows",
               "expected one integer a row, [" + std::to_string(rows) + ']');
  }
  const Tensor tensor = store.file.i64(name);
  return {tensor.i64().begin(), tensor.i64().end()};
}

// Every value is from 0 and, with names, has one.
void check_column(const Store& store, const std::string& name,
                  const std::vector<std::int64_t>& values, std::int64_t count_max) {
  for (std::size_t row = 0; row < values.size(); ++row) {
    if (values[row] >= 0 && values[row] < count_max) continue;
    store.fail("tensor \"" + name + "\", row " + std::to_string(row) + ": value " +
                   std::to_string(values[row]) + ", expected 0 to " + std::to_string(count_max - 1),
               "names in the file's metadata, if there are any, are counted from 0");
  }
}

std::shared_ptr<const Store> open_store(const std::string& path, const TensorsOptions& options) {
  Safetensors file = Safetensors::open(path);
  const Safetensors::RowView rows = file.rows(options.features);
  auto store =
      std::make_shared<Store>(Store{path, std::move(file), rows, 1, {}, {}, {}, {}, options});
  store->row_size = rows.row_elements;
  if (rows.count == 0 || rows.row_elements == 0) {
    store->fail("tensor \"" + options.features + "\" is " +
                    to_string(store->file.shape(options.features)) + ": no value in it",
                "expected [n,...] with a row an example");
  }
  store->class_names = names_from(store->file, path, options.label_names, options.labels);
  store->labels = column(*store, options.labels);
  check_column(
      *store, options.labels, store->labels,
      store->class_names ? static_cast<std::int64_t>(store->class_names->size()) : kClassesMax);
  if (!options.client.empty()) {
    store->owner_names = names_from(store->file, path, options.client_names, options.client);
    store->owners = column(*store, options.client);
    if (store->owner_names) {
      check_column(*store, options.client, store->owners,
                   static_cast<std::int64_t>(store->owner_names->size()));
    }
  }
  return store;
}

DatasetInfo info_of(const Store& store) {
  DatasetInfo info;
  const Shape& shape = store.file.shape(store.options.features);
  info.input_shape.assign(shape.begin() + 1, shape.end());
  if (info.input_shape.empty()) info.input_shape = {1};
  if (store.class_names) {
    info.classes = *store.class_names;
  } else {
    const std::int64_t highest = *std::ranges::max_element(store.labels);
    for (std::int64_t label = 0; label <= highest; ++label)
      info.classes.push_back(std::to_string(label));
  }
  return info;
}

// From one file: all rows, or those that test_tensor leaves and those that it takes.
Source split_rows(const std::shared_ptr<const Store>& store) {
  const TensorsOptions& options = store->options;
  std::vector<std::size_t> train, test;
  std::vector<std::int64_t> marks;
  if (!options.test_tensor.empty()) marks = column(*store, options.test_tensor);
  for (std::size_t row = 0; row < store->rows.count; ++row) {
    bool is_test = false;
    if (!marks.empty()) {
      is_test = options.test_below != kUnset    ? marks[row] < options.test_below
                : options.test_equals != kUnset ? marks[row] == options.test_equals
                                                : marks[row] != 0;
    }
    (is_test ? test : train).push_back(row);
  }
  if (train.empty() || (test.empty() && !marks.empty())) {
    store->fail("tensor \"" + options.test_tensor + "\" puts " + std::to_string(test.size()) +
                    " of " + std::to_string(store->rows.count) + " rows into the test part",
                "data.test_below and data.test_equals say which rows are meant");
  }
  const DatasetInfo info = info_of(*store);
  Source source;
  source.train = std::make_unique<Tensors>(store, std::move(train), info);
  if (test.empty()) {
    source.test = empty_dataset(info);
  } else {
    source.test = std::make_unique<Tensors>(store, std::move(test), info);
  }
  return source;
}

std::unique_ptr<Dataset> all_rows(const std::shared_ptr<const Store>& store, DatasetInfo info) {
  std::vector<std::size_t> rows(store->rows.count);
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  return std::make_unique<Tensors>(store, std::move(rows), std::move(info));
}

Source open_folder(const TensorsOptions& options) {
  const std::string train_path = options.path + "/train.safetensors";
  const std::string test_path = find_in(options.path, {"test.safetensors"});
  const auto train = open_store(train_path, options);
  DatasetInfo info = info_of(*train);
  if (test_path.empty()) return {all_rows(train, info), empty_dataset(info)};
  const auto test = open_store(test_path, options);
  const DatasetInfo other = info_of(*test);
  if (other.input_shape != info.input_shape) {
    test->fail("rows are " + to_string(other.input_shape) + ", those to train on are " +
                   to_string(info.input_shape),
               "are the files of one set?");
  }
  if (train->class_names != test->class_names) {
    test->fail("names other classes than train.safetensors", "are the files of one set?");
  }
  if (other.classes.size() > info.classes.size()) info.classes = other.classes;
  return {all_rows(train, info), all_rows(test, info)};
}

Source open_tensors(const config::Options& given, const Rng&) {
  const auto& options = dynamic_cast<const TensorsOptions&>(given);
  if (options.test_below != kUnset && options.test_equals != kUnset)
    throw ConfigError("data.test_below and data.test_equals exclude each other");
  if (options.test_tensor.empty() &&
      (options.test_below != kUnset || options.test_equals != kUnset)) {
    throw ConfigError("data.test_below and data.test_equals need data.test_tensor",
                      "the tensor that the values stand in");
  }
  std::error_code error;
  if (!std::filesystem::is_directory(options.path, error))
    return split_rows(open_store(options.path, options));
  if (!options.test_tensor.empty()) {
    throw ConfigError("data.test_tensor is " + options.test_tensor + ", but data.path is a folder",
                      "a folder's test part is test.safetensors");
  }
  return open_folder(options);
}

}  // namespace

// Not named after its kind: `safetensors` is the reader.
DatasetEntry tensors();
DatasetEntry tensors() {
  return {{"safetensors", "a features and a labels tensor of a safetensors file", "",
           [] { return std::make_unique<TensorsOptions>(); }},
          open_tensors};
}

}  // namespace fedctl::data
