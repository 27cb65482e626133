// The paths among the options of an experiment or a site file.
#pragma once

#include <functional>
#include <string>

#include "config/fields.hpp"

namespace fedctl::config {

// Whether such a text names a file or a folder. Every text does that is not known to be something
// else: a kind that nobody has thought of is rather asked for than opened.
bool names_path(const Text& rule);

// Calls `visit` with the full dotted key and the value of every text that names a path, the empty
// ones included: "data.partition.path", "method.public_data[0].path".
void visit_paths(Options& root,
                 const std::function<void(const std::string& key, std::string& path)>& visit);

}  // namespace fedctl::config
