#include "learn/adapter_files.hpp"

#include <filesystem>

#include "base/assert.hpp"
#include "base/new_file.hpp"

namespace fedctl::learn {

void save_adapter(AdapterFiles files, const Layout& layout, std::span<const float> weights,
                  const std::string& folder, const std::map<std::string, std::string>& provenance,
                  data::Storage storage) {
  FEDCTL_ASSERT(files.names.size() == layout.blocks().size() && weights.size() == layout.size());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw RunDirectoryError(folder + ": cannot be made: " + error.message(),
                            "check permissions and free space");
  }
  TensorMap tensors = std::move(files.frozen);
  for (std::size_t i = 0; i < files.names.size(); ++i) {
    const Block& block = layout.blocks()[i];
    tensors[files.names[i]] = Tensor::of(weights.subspan(block.offset, block.count), block.shape);
  }
  std::map<std::string, std::string> metadata = provenance;
  metadata.insert(files.metadata.begin(), files.metadata.end());
  data::write_safetensors(folder + '/' + files.weights_name, tensors, metadata, storage);
  NewFile config(folder + '/' + files.config_name);
  config.put(as_bytes_of(std::string_view(files.config + '\n')));
  config.commit();
}

}  // namespace fedctl::learn
