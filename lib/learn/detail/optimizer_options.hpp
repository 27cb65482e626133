// What every local optimizer has: a learning rate.
#pragma once

#include "config/fields.hpp"

namespace fedctl::learn::detail {

struct OptimizerOptions : config::Options {
  double lr = 0.05;
  void fields(config::Fields& fields) override {
    fields.real("lr", lr, {.above = 0}, "learning rate");
  }
};

}  // namespace fedctl::learn::detail
