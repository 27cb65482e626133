// Files made by a test, and the shared data where they are.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace fedctl::test {

// A folder of its own, gone at the end of the test.
class Folder {
 public:
  Folder() : path_(fresh()) { std::filesystem::create_directories(path_); }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }
  std::string write(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    return file.string();
  }

 private:
  static std::string fresh() {
    static int made = 0;
    return (std::filesystem::temp_directory_path() /
            ("fedctl-" + std::to_string(::getpid()) + '-' + std::to_string(++made)))
        .string();
  }
  std::string path_;
};

inline std::string shared_data() {
  const char* given = std::getenv("FEDCTL_DATA");
  return given != nullptr ? given : FEDCTL_SOURCE_DIR "/../shared/data";
}
inline bool has_shared(const std::string& below) {
  return std::filesystem::exists(shared_data() + '/' + below);
}

// The message of the error that `action` throws; its type is E.
template <class E, class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace fedctl::test
