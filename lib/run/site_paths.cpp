#include "run/site_paths.hpp"

#include <algorithm>
#include <filesystem>
#include <map>

#include "config/paths.hpp"

namespace fedctl::run {
namespace {

namespace fs = std::filesystem;

bool is_below(const std::string& path, const std::string& folder) {
  return path == folder ||
         (path.starts_with(folder) && (folder.ends_with('/') || path[folder.size()] == '/'));
}

// Without a slash at its end.
std::string tidy(const fs::path& path) {
  std::string text = path.lexically_normal().string();
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

std::string real_path(const std::string& path) {
  std::error_code failure;
  const fs::path real = fs::weakly_canonical(path, failure);
  return failure ? "" : tidy(real);
}

// The site's files by the plan's keys.
std::map<std::string, std::string> files_of(const SiteOptions& site) {
  std::map<std::string, std::string> files = {{"data.path", site.data.path},
                                              {"data.test", site.data.test},
                                              {"data.tokenizer", site.tokenizer},
                                              {"model.path", site.model.path},
                                              {"adapter.path", site.adapter.path}};
  std::erase_if(files, [](const auto& file) { return file.second.empty(); });
  return files;
}

[[noreturn]] void refuse(const std::string& key, const std::string& path) {
  const std::string whole = tidy(fs::absolute(path));
  throw ProtocolError(
      "the server's plan names a file of this machine that nobody here has allowed: " + key +
          " is " + path,
      "if it may be used: --allow-path " + whole + ", or in the site file policy: {paths: [" +
          whole + "]}; the site file's data, model, tokenizer and adapter name files of your own");
}

}  // namespace

AllowedPaths::AllowedPaths(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const std::string real = real_path(path);
    if (real.empty()) throw ConfigError(path + ": an allowed path that cannot be looked up");
    written_.push_back(tidy(fs::absolute(path)));
    written_.push_back(real);
    real_.push_back(real);
  }
}

bool AllowedPaths::hold(const std::string& path) const {
  const auto one_holds = [](const std::vector<std::string>& folders, const std::string& file) {
    return std::ranges::any_of(folders, [&](const auto& each) { return is_below(file, each); });
  };
  if (!one_holds(written_, tidy(fs::absolute(path)))) return false;
  const std::string real = real_path(path);
  return !real.empty() && one_holds(real_, real);
}

void use_site_files(const SiteOptions& site, const AllowedPaths& allowed, Experiment& plan) {
  std::map<std::string, std::string> own = files_of(site);
  config::visit_paths(plan, [&](const std::string& key, std::string& path, bool server_alone) {
    if (server_alone) {
      path.clear();
    } else if (const auto found = own.find(key); found != own.end()) {
      path = found->second;
      own.erase(found);
    } else if (!site.data.path.empty() &&
               (key == "data.test" || key.starts_with("data.partition."))) {
      path.clear();  // of the server's data
    } else if (!path.empty() && !allowed.hold(path)) {
      refuse(key, path);
    }
  });
  if (!own.empty()) {
    const auto& [key, path] = *own.begin();
    throw ConfigError("the site file has " + path + " for " + key + ", which this plan lacks",
                      "it is of another kind of data or model; for it, leave the key out");
  }
}

}  // namespace fedctl::run
