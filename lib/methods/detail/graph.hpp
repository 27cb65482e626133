// Who talks to whom in methods without a server in the middle.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config/fields.hpp"
#include "talk/endpoint.hpp"

namespace fedctl::methods {

using talk::PeerId;

// The option "graph" of such a method.
void graph_field(config::Fields& fields, std::string& kind);

class Graph {
 public:
  // complete: everyone with everyone; ring; star: client 0 with everyone; grid: rows of
  // ceil(sqrt(clients)), the last one perhaps shorter. Connected for any number of clients.
  Graph(const std::string& kind, std::int64_t clients);

  // Ascending.
  const std::vector<PeerId>& neighbours(PeerId client) const {
    return neighbours_[static_cast<std::size_t>(client)];
  }
  // Each once, the lower id first; ascending.
  std::vector<std::pair<PeerId, PeerId>> edges() const;
  // Of Metropolis: 1 / (1 + the larger number of neighbours). With the rest for oneself the weights
  // are symmetric and sum to one in each row.
  double weight(PeerId a, PeerId b) const;

  // Of exchanges that happen at a rate of 1 in all, every edge as often as the others (dadao.md):
  // chi1 = 1 / the smallest eigenvalue of the graph's Laplacian but zero, chi2 = half the largest
  // resistance of an edge.
  struct Constants {
    double chi1 = 0, chi2 = 0;
  };
  Constants constants() const;

 private:
  std::vector<std::vector<PeerId>> neighbours_;
};

}  // namespace fedctl::methods
