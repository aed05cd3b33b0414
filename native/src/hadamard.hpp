// The matrices of the Hadamard transform, golden/operations/hadamard.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace scanwright {

// The order m of the block in `order = m 2**k`: 1, 12 or 20. Throws Error if there is none.
std::size_t check_hadamard_order(std::size_t order);

// The block of order m, row by row, with entries +1 and -1.
std::vector<std::int32_t> hadamard_block(std::size_t block);

}  // namespace scanwright
