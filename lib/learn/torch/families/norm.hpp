// LayerNorm (Ba et al. 2016, arXiv 1607.06450), as the families use it.
#pragma once

#include "learn/torch/builder.hpp"

namespace fedctl::learn {

// (x - mean) / sqrt(variance + eps) * weight + bias, row by row.
struct LayerNorm {
  at::Tensor weight, bias;
  double eps = 0;

  LayerNorm() = default;
  LayerNorm(Builder& builder, const std::string& name, std::int64_t width, double epsilon)
      : weight(builder.parameter(name + ".weight", {width}, Init::ones())),
        bias(builder.parameter(name + ".bias", {width}, Init::zeros())),
        eps(epsilon) {}
  at::Tensor operator()(const at::Tensor& x) const {
    return at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
  }
};

}  // namespace fedctl::learn
