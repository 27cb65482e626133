// Which files of this machine a server's plan may have opened here (docs/security.md).
#pragma once

#include <string>
#include <vector>

#include "run/site.hpp"

namespace fedctl::run {

// Files and folders that a plan may name, and all that is below them.
class AllowedPaths {
 public:
  explicit AllowedPaths(const std::vector<std::string>& paths);

  // Asks the file system only about paths that are allowed as they are written: then the file
  // itself, behind every link, must be allowed too.
  bool hold(const std::string& path) const;

 private:
  std::vector<std::string> written_, real_;
};

// Puts the site's own files in the place of the plan's. Throws ProtocolError naming the first key
// and path that nobody here has allowed, and what to write where; ConfigError if the plan has no
// place for one of the site's files. No path of the plan has been opened by then.
void use_site_files(const SiteOptions& site, const AllowedPaths& allowed, Experiment& plan);

}  // namespace fedctl::run
