// The paths among the options of an experiment or a site file.
#pragma once

#include <functional>
#include <string>

#include "config/fields.hpp"

namespace fedctl::config {

// Whether such a text names a file or a folder. Every text does that is not known to be something
// else: a kind that nobody has thought of is rather asked for than opened.
bool names_path(const Text& rule);

// `key`: the full dotted one, as "data.partition.path" or "method.public[0].path"; `server_alone`:
// no client opens it.
using PathVisit = std::function<void(const std::string& key, std::string& path, bool server_alone)>;

// Calls `visit` for every text that names a path, the empty ones included.
void visit_paths(Options& root, const PathVisit& visit);

}  // namespace fedctl::config
