#include "methods/detail/graph.hpp"

#include <algorithm>
#include <cmath>

#include "math/matrix.hpp"

namespace fedctl::methods {

void graph_field(config::Fields& fields, std::string& kind) {
  fields.text("graph", kind, {.one_of = {"ring", "complete", "star", "grid"}},
              "who is whose neighbour");
}

Graph::Graph(const std::string& kind, std::int64_t clients)
    : neighbours_(static_cast<std::size_t>(clients)) {
  const auto join = [this](std::int64_t a, std::int64_t b) {
    if (a == b) return;
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      std::vector<PeerId>& list = neighbours_[static_cast<std::size_t>(from)];
      const auto at = std::ranges::lower_bound(list, to);
      if (at == list.end() || *at != to) list.insert(at, to);
    }
  };
  const auto row = static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(clients))));
  for (std::int64_t a = 0; a < clients; ++a) {
    if (kind == "ring") join(a, (a + 1) % clients);
    if (kind == "star") join(0, a);
    for (std::int64_t b = 0; kind == "complete" && b < a; ++b) join(a, b);
    if (kind == "grid" && a % row > 0) join(a - 1, a);
    if (kind == "grid" && a >= row) join(a - row, a);
  }
}

std::vector<std::pair<PeerId, PeerId>> Graph::edges() const {
  std::vector<std::pair<PeerId, PeerId>> edges;
  for (std::size_t a = 0; a < neighbours_.size(); ++a) {
    for (const PeerId b : neighbours_[a]) {
      if (static_cast<PeerId>(a) < b) edges.emplace_back(static_cast<PeerId>(a), b);
    }
  }
  return edges;
}

double Graph::weight(PeerId a, PeerId b) const {
  return 1 / (1 + static_cast<double>(std::max(neighbours(a).size(), neighbours(b).size())));
}

Graph::Constants Graph::constants() const {
  const auto all = edges();
  const std::size_t n = neighbours_.size();
  const double rate = 1 / static_cast<double>(all.size());
  math::Matrix laplacian(n, n);
  for (const auto& [a, b] : all) {
    const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
    laplacian.at(i, i) += rate;
    laplacian.at(j, j) += rate;
    laplacian.at(i, j) -= rate;
    laplacian.at(j, i) -= rate;
  }
  // Symmetric without negative eigenvalues: these are the singular values. The graph is connected,
  // so only the last one is zero.
  const math::Svd parts = math::svd(laplacian);
  Constants found;
  found.chi1 = 1 / parts.s[n - 2];
  for (const auto& [a, b] : all) {
    double resistance = 0;
    for (std::size_t k = 0; k + 1 < n; ++k) {
      const double along =
          parts.v.at(static_cast<std::size_t>(a), k) - parts.v.at(static_cast<std::size_t>(b), k);
      resistance += along * along / parts.s[k];
    }
    found.chi2 = std::max(found.chi2, resistance / 2);
  }
  return found;
}

}  // namespace fedctl::methods
