// Attention, one head of one sequence at a time, so that everything it touches stays in the cache.
// Sixteen queries stand in the lanes of a vector and the loop runs over the keys: softmax needs no
// sum across lanes, and half of the keys are never looked at when the mask is causal.
//
// Cost, forward: 4 * head_width flops and one exp for each pair of query and visible key; backward
// two and a half times that. Scratch: 128 bytes a key.
#include <algorithm>

#include "learn/torch/attention_parts.hpp"

namespace fedctl::learn::loops {

using namespace parts;

FEDCTL_CLONES
void attention_forward(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       float* out, float* peak, float* inverse) {
  const std::int64_t length = shape.length;
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(shape.head_width));
  Scratch s(shape);
  for (std::int64_t head = 0; head < shape.batch * shape.heads; ++head) {
    const Place place(shape, head);
    if (place.new_keys) {
      take_head(shape, k + place.kv, place.kv_stride, 0, length, true, 1, s.keys);
      take_head(shape, v + place.kv, place.kv_stride, 0, length, false, 1, s.values);
    }
    for (std::int64_t first = 0; first < length; first += kLanes) {
      const std::int64_t count = std::min(kLanes, length - first);
      const std::int64_t keys = shape.causal ? first + count : length;
      take_head(shape, q + place.q, place.q_stride, first, count, true, scale, s.rows);
      to_lanes(s.rows, count, s.step, s.lanes);
      score(shape, first, keys, s);
      Lanes most, sum;
      soften(keys, s, most, sum);
      mix(s.scores, s.values, keys, s.step, s.mixed);
      const Lanes one_over = 1.0F / sum;
      for (std::int64_t d = 0; d < s.step; ++d) {
        store(s.mixed + d * kLanes, load(s.mixed + d * kLanes) * one_over);
      }
      from_lanes(s.mixed, count, s.step, s.rows);
      put_head(shape, s.rows, place.q_stride, first, count, false, 1, out + place.q);
      for (std::int64_t i = 0; i < count; ++i) {
        peak[place.statistics + first + i] = most[i];
        inverse[place.statistics + first + i] = one_over[i];
      }
    }
  }
}

FEDCTL_CLONES
void attention_backward(const AttentionShape& shape, const float* q, const float* k, const float* v,
                        const float* out, const float* peak, const float* inverse,
                        const float* d_out, float* d_q, float* d_k, float* d_v) {
  const std::int64_t length = shape.length;
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(shape.head_width));
  Scratch s(shape);
  for (std::int64_t head = 0; head < shape.batch * shape.heads; ++head) {
    const Place place(shape, head);
    if (place.new_keys) {
      take_head(shape, k + place.kv, place.kv_stride, 0, length, true, 1, s.keys);
      take_head(shape, v + place.kv, place.kv_stride, 0, length, false, 1, s.values);
      std::fill_n(s.d_keys, 2 * length * s.step, 0.0F);  // and d_values, which follows it
    }
    for (std::int64_t first = 0; first < length; first += kLanes) {
      const std::int64_t count = std::min(kLanes, length - first);
      const std::int64_t keys = shape.causal ? first + count : length;
      std::fill_n(s.rows, 2 * kLanes * s.step, 0.0F);  // and d_rows: scatter() reads all sixteen
      // D first: it needs O and dO, whose buffers the rest uses otherwise.
      take_head(shape, out + place.q, place.q_stride, first, count, false, 1, s.rows);
      take_head(shape, d_out + place.q, place.q_stride, first, count, false, 1, s.d_rows);
      to_lanes(s.rows, count, s.step, s.lanes);
      to_lanes(s.d_rows, count, s.step, s.d_lanes);
      Lanes d{}, most{}, one_over{};
      for (std::int64_t c = 0; c < s.step; ++c) {
        d += load(s.lanes + c * kLanes) * load(s.d_lanes + c * kLanes);
      }
      for (std::int64_t i = 0; i < count; ++i) {
        most[i] = peak[place.statistics + first + i];
        one_over[i] = inverse[place.statistics + first + i];
      }
      take_head(shape, q + place.q, place.q_stride, first, count, true, scale, s.rows);
      to_lanes(s.rows, count, s.step, s.lanes);
      score(shape, first, keys, s);
      products(s.d_lanes, s.values, keys, s.step, s.d_scores);
      soften_backward(keys, count, most, one_over, d, s);
      mix(s.d_scores, s.keys, keys, s.step, s.mixed);
      scatter(s.d_scores, s.rows, keys, s.step, s.d_keys);
      scatter(s.scores, s.d_rows, keys, s.step, s.d_values);
      from_lanes(s.mixed, count, s.step, s.rows);
      put_head(shape, s.rows, place.q_stride, first, count, true, scale, d_q + place.q);
    }
    if (place.last) {
      put_head(shape, s.d_keys, place.kv_stride, 0, length, true, 1, d_k + place.kv);
      put_head(shape, s.d_values, place.kv_stride, 0, length, false, 1, d_v + place.kv);
    }
  }
}

}  // namespace fedctl::learn::loops
