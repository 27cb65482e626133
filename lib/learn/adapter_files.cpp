#include "learn/adapter_files.hpp"

#include <filesystem>
#include <fstream>

#include "base/assert.hpp"

namespace fedctl::learn {
namespace {

// Replaces the file by this text and a newline, atomically.
void write_text(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << text << '\n';
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(temporary, path, error);
  if (!out || error) {
    throw DataError(path + ": cannot be written", "check permissions and free space");
  }
}

}  // namespace

void save_adapter(AdapterFiles files, const Layout& layout, std::span<const float> weights,
                  const std::string& folder, const std::map<std::string, std::string>& provenance,
                  data::Storage storage) {
  FEDCTL_ASSERT(files.names.size() == layout.blocks().size() && weights.size() == layout.size());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw DataError(folder + ": cannot be made: " + error.message());
  TensorMap tensors = std::move(files.frozen);
  for (std::size_t i = 0; i < files.names.size(); ++i) {
    const Block& block = layout.blocks()[i];
    tensors[files.names[i]] = Tensor::of(weights.subspan(block.offset, block.count), block.shape);
  }
  std::map<std::string, std::string> metadata = provenance;
  metadata.insert(files.metadata.begin(), files.metadata.end());
  data::write_safetensors(folder + '/' + files.weights_name, tensors, metadata, storage);
  write_text(folder + '/' + files.config_name, files.config);
}

}  // namespace fedctl::learn
