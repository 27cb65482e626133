// The one door to LibTorch: tensors and autograd. torch/torch.h also holds modules, data loaders
// and the serialisers, none of which is used here, and takes twice as long to compile.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
