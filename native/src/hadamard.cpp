#include "hadamard.hpp"

#include <string>

#include "scanwright/scanwright.hpp"

namespace scanwright {

std::size_t check_hadamard_order(std::size_t order) {
    for (const std::size_t block : {std::size_t{1}, std::size_t{12}, std::size_t{20}}) {
        const std::size_t power = order / block;
        if (order % block == 0 && power > 0 && (power & (power - 1)) == 0) return block;
    }
    throw Error("there is no Hadamard transform of order " + std::to_string(order) +
                "; rotate a d_inner of 2^k, 12 2^k, 20 2^k or 40 2^k, or take a scheme without "
                "rotation");
}

std::vector<std::int32_t> hadamard_block(std::size_t block) {
    // Paley: [[1, 1 ...], [-1 ..., Q + I]], Q[i, j] = chi(i - j) modulo the prime m - 1.
    std::vector<std::int32_t> matrix(block * block, 1);
    const std::size_t prime = block - 1;
    for (std::size_t row = 1; row < block; ++row) {
        matrix[row * block] = -1;
        for (std::size_t column = 1; column < block; ++column) {
            const std::size_t difference = (row + prime - column) % prime;
            bool square = difference == 0;
            for (std::size_t root = 1; root < prime; ++root) {
                square = square || root * root % prime == difference;
            }
            matrix[row * block + column] = square ? 1 : -1;
        }
    }
    return matrix;
}

}  // namespace scanwright
