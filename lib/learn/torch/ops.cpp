#include "learn/torch/ops.hpp"

#include "base/assert.hpp"
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

// Calls use(shape, first row) for each run of sequences of one length.
template <class Use>
void for_each_run(const Tensor& q, const AttentionOptions& options, const Use& use) {
  loops::AttentionShape shape{.batch = 0,
                              .length = 0,
                              .heads = options.heads,
                              .kv_heads = options.kv_heads,
                              .head_width = q.size(1) / options.heads,
                              .causal = options.causal,
                              .cosine = values(options.cosine),
                              .sine = values(options.sine)};
  std::int64_t row = 0;
  for (std::size_t i = 0; i < options.lengths.size();) {
    std::size_t end = i;
    while (end < options.lengths.size() && options.lengths[end] == options.lengths[i]) ++end;
    shape.batch = static_cast<std::int64_t>(end - i);
    shape.length = options.lengths[i];
    use(shape, row);
    row += shape.batch * shape.length;
    i = end;
  }
  FEDCTL_ASSERT(row == q.size(0));
}

struct Attention : torch::autograd::Function<Attention> {
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionOptions& options) {
    Tensor out = at::empty_like(q);
    Tensor peak = at::empty({q.size(0) * options.heads}, q.options());
    Tensor inverse = at::empty_like(peak);
    const std::int64_t wide = q.size(1), narrow = k.size(1), heads = options.heads;
    for_each_run(q, options, [&](const loops::AttentionShape& shape, std::int64_t row) {
      loops::attention_forward(shape, values(q) + row * wide, values(k) + row * narrow,
                               values(v) + row * narrow, room(out) + row * wide,
                               room(peak) + row * heads, room(inverse) + row * heads);
    });
    context->save_for_backward({q, k, v, out, peak, inverse, options.cosine, options.sine});
    context->saved_data["lengths"] = options.lengths;
    context->saved_data["heads"] = options.heads;
    context->saved_data["kv_heads"] = options.kv_heads;
    context->saved_data["causal"] = options.causal;
    return out;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const AttentionOptions options{context->saved_data["lengths"].toIntVector(),
                                   context->saved_data["heads"].toInt(),
                                   context->saved_data["kv_heads"].toInt(),
                                   context->saved_data["causal"].toBool(),
                                   saved[6],
                                   saved[7]};
    const Tensor d_out = gradients[0].contiguous();
    Tensor d_q = at::empty_like(saved[0]), d_k = at::empty_like(saved[1]);
    Tensor d_v = at::empty_like(saved[2]);
    const std::int64_t wide = d_q.size(1), narrow = d_k.size(1), heads = options.heads;
    for_each_run(saved[0], options, [&](const loops::AttentionShape& shape, std::int64_t row) {
      const std::int64_t q = row * wide, kv = row * narrow, h = row * heads;
      loops::attention_backward(shape, values(saved[0]) + q, values(saved[1]) + kv,
                                values(saved[2]) + kv, values(saved[3]) + q, values(saved[4]) + h,
                                values(saved[5]) + h, values(d_out) + q, room(d_q) + q,
                                room(d_k) + kv, room(d_v) + kv);
    });
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

struct HalfProduct : torch::autograd::Function<HalfProduct> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& w) {
    context->save_for_backward({w});
    return x.to(at::kBFloat16).mm(w).to(at::kFloat);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor w = context->get_saved_variables()[0];
    return {gradients[0].to(at::kBFloat16).mm(w.t()).to(at::kFloat), Tensor()};
  }
};

// `front` before each sequence of `rows`.
Tensor before_each(const Tensor& front, const Tensor& rows,
                   const std::vector<std::int64_t>& lengths) {
  std::vector<Tensor> parts;
  std::int64_t row = 0;
  for (const std::int64_t length : lengths) {
    parts.push_back(front);
    parts.push_back(rows.narrow(0, row, length));
    row += length;
  }
  return at::cat(parts);
}

// The prefix joins the sequences as rows of their own, whose queries are nothing and whose results
// are dropped: it is short beside them.
Tensor attention_behind_prefix(const Tensor& q, const Tensor& k, const Tensor& v,
                               AttentionOptions options) {
  const std::int64_t tokens = options.prefix_keys.size(0);
  const std::vector<std::int64_t> lengths = options.lengths;
  const Tensor queries = before_each(at::zeros({tokens, q.size(1)}), q, lengths);
  const Tensor keys = before_each(options.prefix_keys, k, lengths);
  const Tensor values = before_each(options.prefix_values, v, lengths);
  for (std::int64_t& length : options.lengths) length += tokens;
  options.prefix_keys.reset();
  options.prefix_values.reset();
  const Tensor all = attention(queries, keys, values, options);
  std::vector<Tensor> parts;
  std::int64_t row = 0;
  for (const std::int64_t length : lengths) {
    parts.push_back(all.narrow(0, row + tokens, length));
    row += tokens + length;
  }
  return at::cat(parts);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options) {
  if (options.prefix_keys.defined()) return attention_behind_prefix(q, k, v, options);
  return Attention::apply(q.contiguous(), k.contiguous(), v.contiguous(), options);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return RmsNorm::apply(x.contiguous(), weight, eps);
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  return SwiGlu::apply(gate.contiguous(), up.contiguous());
}

Tensor half_product(const Tensor& x, const Tensor& w) { return HalfProduct::apply(x, w); }

}  // namespace fedctl::learn::ops
