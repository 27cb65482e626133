// The table of adapters, and the two that need no file of their own: `head` trains the output
// layer, `full` everything.
#include "learn/torch/adapters/adapters.hpp"

namespace fedctl::learn {
namespace {

class Head final : public Adapter {
 public:
  bool trains_head() const override { return true; }
};
class Full final : public Adapter {
 public:
  bool trains_base() const override { return true; }
  bool trains_head() const override { return true; }
};

}  // namespace

std::unique_ptr<Adapter> make_head(const config::Options&) { return std::make_unique<Head>(); }
std::unique_ptr<Adapter> make_full(const config::Options&) { return std::make_unique<Full>(); }

std::unique_ptr<Adapter> make_adapter(const config::Plugin& adapter) {
#define ADAPTER(name) \
  if (adapter.kind == #name) return make_##name(*adapter.options);
#include "learn/adapters.def"
#undef ADAPTER
  throw ConfigError("no adapter \"" + adapter.kind + '"', "fedctl list adapters");
}

}  // namespace fedctl::learn
