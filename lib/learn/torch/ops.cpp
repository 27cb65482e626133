#include "learn/torch/ops.hpp"

#include "learn/torch/loops.hpp"

namespace fedctl::learn::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const float* values(const Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<float>() : nullptr;
}
float* room(Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; }

loops::AttentionShape shape_of(const Tensor& q, const AttentionOptions& options) {
  return {.batch = options.batch,
          .length = q.size(0) / options.batch,
          .heads = options.heads,
          .kv_heads = options.kv_heads,
          .head_width = q.size(1) / options.heads,
          .causal = options.causal,
          .cosine = values(options.cosine),
          .sine = values(options.sine)};
}

struct Attention : torch::autograd::Function<Attention> {
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionOptions& options) {
    const loops::AttentionShape shape = shape_of(q, options);
    Tensor out = at::empty_like(q);
    Tensor peak = at::empty({options.batch, options.heads, shape.length}, q.options());
    Tensor inverse = at::empty_like(peak);
    loops::attention_forward(shape, values(q), values(k), values(v), room(out), room(peak),
                             room(inverse));
    context->save_for_backward({q, k, v, out, peak, inverse, options.cosine, options.sine});
    context->saved_data["batch"] = options.batch;
    context->saved_data["heads"] = options.heads;
    context->saved_data["kv_heads"] = options.kv_heads;
    context->saved_data["causal"] = options.causal;
    return out;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const AttentionOptions options{context->saved_data["batch"].toInt(),
                                   context->saved_data["heads"].toInt(),
                                   context->saved_data["kv_heads"].toInt(),
                                   context->saved_data["causal"].toBool(),
                                   saved[6],
                                   saved[7]};
    const Tensor d_out = gradients[0].contiguous();
    Tensor d_q = at::empty_like(saved[0]), d_k = at::empty_like(saved[1]);
    Tensor d_v = at::empty_like(saved[2]);
    loops::attention_backward(shape_of(saved[0], options), values(saved[0]), values(saved[1]),
                              values(saved[2]), values(saved[3]), values(saved[4]),
                              values(saved[5]), values(d_out), room(d_q), room(d_k), room(d_v));
    return {d_q, d_k, d_v, Tensor()};
  }
};

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                        double eps) {
    Tensor y = at::empty_like(x), inverse = at::empty({x.size(0)}, x.options());
    loops::rms_norm_forward(x.size(0), x.size(1), values(x), values(weight),
                            static_cast<float>(eps), room(y), room(inverse));
    context->save_for_backward({x, weight, inverse});
    context->saved_data["train_weight"] = weight.requires_grad();
    return y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    const Tensor d_y = gradients[0].contiguous();
    Tensor d_x = at::empty_like(x), d_weight;
    if (context->saved_data["train_weight"].toBool()) d_weight = at::empty_like(saved[1]);
    loops::rms_norm_backward(x.size(0), x.size(1), values(x), values(saved[1]), values(saved[2]),
                             values(d_y), room(d_x), room(d_weight));
    return {d_x, d_weight, Tensor()};
  }
};

struct SwiGlu : torch::autograd::Function<SwiGlu> {
  static Tensor forward(AutogradContext* context, const Tensor& gate, const Tensor& up) {
    Tensor y = at::empty_like(gate);
    loops::swiglu_forward(gate.numel(), values(gate), values(up), room(y));
    context->save_for_backward({gate, up});
    return y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor d_y = gradients[0].contiguous();
    Tensor d_gate = at::empty_like(saved[0]), d_up = at::empty_like(saved[1]);
    loops::swiglu_backward(saved[0].numel(), values(saved[0]), values(saved[1]), values(d_y),
                           room(d_gate), room(d_up));
    return {d_gate, d_up};
  }
};

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options) {
  return Attention::apply(q.contiguous(), k.contiguous(), v.contiguous(), options);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return RmsNorm::apply(x.contiguous(), weight, eps);
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  return SwiGlu::apply(gate.contiguous(), up.contiguous());
}

}  // namespace fedctl::learn::ops
