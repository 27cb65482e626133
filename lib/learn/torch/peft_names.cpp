#include "learn/torch/peft_names.hpp"

#include <string_view>
#include <utility>

namespace fedctl::learn {
namespace {

// Replaces `from` where it stands between dots; true if it did.
bool replace_words(std::string& name, std::string_view from, std::string_view to) {
  for (std::size_t at = name.find(from); at != std::string::npos; at = name.find(from, at + 1)) {
    const std::size_t end = at + from.size();
    if ((at > 0 && name[at - 1] != '.') || (end < name.size() && name[end] != '.')) continue;
    name.replace(at, from.size(), to);
    return true;
  }
  return false;
}

}  // namespace

std::string peft_name(const std::string& name) {
  std::string renamed = name;
  if (!renamed.starts_with("vit.") || !replace_words(renamed, "encoder.layer", "layers")) {
    return name;
  }
  // In this order: the last is also the end of the fourth.
  static constexpr std::pair<std::string_view, std::string_view> kParts[] = {
      {"attention.attention.query", "attention.q_proj"},
      {"attention.attention.key", "attention.k_proj"},
      {"attention.attention.value", "attention.v_proj"},
      {"attention.output.dense", "attention.o_proj"},
      {"intermediate.dense", "mlp.fc1"},
      {"output.dense", "mlp.fc2"}};
  for (const auto& [from, to] : kParts) {
    if (replace_words(renamed, from, to)) break;
  }
  return renamed;
}

}  // namespace fedctl::learn
