// NewFile: a file that is there whole or not at all.
#pragma once

#include <span>
#include <string>

#include "base/bytes.hpp"

namespace fedctl {

// Written beside the one it replaces, as PATH.tmp, until commit(). What stands at PATH.tmp before
// is removed, not opened: it is left from a process that was killed, or it is a link that somebody
// has planted. All functions throw RunDirectoryError naming `path` and the system's reason.
class NewFile {
 public:
  explicit NewFile(std::string path, unsigned mode = 0644);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void put(ByteView bytes);
  // On the disk and in its place when this returns; sync_folder_of() makes its name last, too.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_, temporary_;
  int file_;
};

// The same at once, name and all.
void replace_file(const std::string& path, std::span<const ByteView> pieces, unsigned mode = 0644);
void replace_file(const std::string& path, ByteView bytes, unsigned mode = 0644);
// Makes the file's name, or its absence, last.
void sync_folder_of(const std::string& path);

}  // namespace fedctl
