// The inner loops for any processor.
#include "hadamard.hpp"
#include "kernels.hpp"

#include "kernels.inc"

const scanwright::Kernels scanwright::portable_kernels = scanwright::all_kernels;
