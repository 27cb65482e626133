#include "base/new_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/errors.hpp"

namespace fedctl {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::temp_directory_path() / ("new-file-test-" + std::to_string(::getpid()));
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::string at(const char* name) const { return (path / name).string(); }
};

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}
ByteView bytes(std::string_view text) { return as_bytes_of(text); }

}  // namespace

TEST_CASE("a new file replaces the old one as a whole, or not at all", "[base]") {
  const Folder folder;
  const std::string path = folder.at("file");
  replace_file(path, bytes("old"));
  {
    NewFile file(path);
    file.put(bytes("ne"));
    CHECK(text_of(path) == "old");
  }
  CHECK(text_of(path) == "old");
  CHECK_FALSE(fs::exists(path + ".tmp"));
  {
    NewFile file(path, 0600);
    file.put(bytes("ne"));
    file.put(bytes("w"));
    file.commit();
  }
  CHECK(text_of(path) == "new");
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK_FALSE(fs::exists(path + ".tmp"));
}

TEST_CASE("what stands in the way of a new file is not written through", "[base]") {
  const Folder folder;
  const std::string path = folder.at("file"), victim = folder.at("victim");
  std::ofstream(victim) << "mine";
  fs::create_symlink(victim, path + ".tmp");
  replace_file(path, bytes("text"));
  CHECK(text_of(victim) == "mine");
  CHECK(text_of(path) == "text");
  CHECK_FALSE(fs::is_symlink(path));
  // Nor is a link at the path itself: it is replaced.
  const std::string link = folder.at("link");
  fs::create_symlink(victim, link);
  replace_file(link, bytes("text"));
  CHECK(text_of(victim) == "mine");
  CHECK_FALSE(fs::is_symlink(link));
  // Nor is a pipe waited for.
  REQUIRE(::mkfifo((path + ".tmp").c_str(), 0600) == 0);
  replace_file(path, bytes("again"));
  CHECK(text_of(path) == "again");
}

TEST_CASE("a file that cannot be written is named, with the reason", "[base]") {
  const Folder folder;
  fs::create_directories(folder.at("file"));
  CHECK_THROWS_WITH(replace_file(folder.at("file"), bytes("x")),
                    Catch::StartsWith(folder.at("file")) && Catch::EndsWith("Is a directory"));
  CHECK_THROWS_AS(replace_file(folder.at("nowhere/file"), bytes("x")), RunDirectoryError);
}

}  // namespace fedctl
