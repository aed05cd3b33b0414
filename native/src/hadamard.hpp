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

// Doubles a transform of `size` values until it has `order`: each time sums first, then differences.
template <typename T>
static inline void double_transform(T* values, std::size_t size, std::size_t order) {
    for (std::size_t distance = size; distance < order; distance *= 2) {
        for (std::size_t first = 0; first < order; first += 2 * distance) {
            T* __restrict low = values + first;
            T* __restrict high = low + distance;
            for (std::size_t e = 0; e < distance; ++e) {
                const T sum = low[e] + high[e], difference = low[e] - high[e];
                low[e] = sum;
                high[e] = difference;
            }
        }
    }
}

}  // namespace scanwright
