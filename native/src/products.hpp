// Products of matrices and vectors, with the weights packed as the kernels read them.
#pragma once

#include "requantizer.hpp"

namespace scanwright {

// A matrix-vector product in int32, for inputs and weights of any width up to 16 bits.
class LinearProduct {
public:
    LinearProduct() = default;

    // Takes `count` rows of `matrix` from `first` on.
    LinearProduct(const Matrix& matrix, int input_bits, std::size_t first, std::size_t count);
    LinearProduct(const Matrix& matrix, int input_bits)
        : LinearProduct(matrix, input_bits, 0, matrix.rows) {}

    // Multiplies the inputs of `tokens` tokens from row `first` and column `column` on; rounds the
    // totals, unless `rounding` is null.
    void run(const Kernels& kernels, const Rows32& inputs, std::size_t first, std::size_t tokens,
             const Rounding* rounding, Rows32& totals, std::size_t column = 0) const;

    // The largest magnitude of a total.
    double largest() const { return largest_; }
    std::size_t rows() const { return rows_; }
    std::size_t columns() const { return columns_; }

private:
    // Two weights a byte where all have at most four bits; words where weights or inputs are no
    // bytes.
    enum class Packing { nibbles, bytes, words };
    void choose_packing(const Matrix& matrix, int input_bits, std::size_t first);
    void pack(const Matrix& matrix, std::size_t first);

    std::size_t rows_ = 0, columns_ = 0;
    Packing packing_ = Packing::bytes;
    Aligned<Nibbles> nibbles_;
    Aligned<std::uint8_t> bytes_;
    Aligned<std::int16_t> words_;
    Values bias_;
    double largest_ = 0;
};

// A product and the requantizer behind it.
class Linear {
public:
    Linear() = default;
    Linear(const Matrix& matrix, int input_bits, const Integers& shifts, Limits limits,
           std::size_t first = 0)
        : product_(matrix, input_bits, first, shifts.size()),
          requantizer_(shifts, limits, product_.largest()) {}

    // The same by a team of threads, each with a share of the columns, which add up their totals. The
    // inputs are the share's columns, or all.
    Linear(const Matrix& matrix, int input_bits, const Integers& shifts, Limits limits,
           const std::optional<Share>& columns);

    void run(const Kernels& kernels, const Rows32& inputs, std::size_t tokens, Rows32& out) const;

    // Adds the requantized result, which `totals` then has, to the residual.
    void add(const Kernels& kernels, const Rows32& inputs, std::size_t tokens, Rows32& totals,
             Rows32& residual) const;
    std::size_t rows() const { return product_.rows(); }

private:
    void run_shared(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
                    Rows32& out) const;

    LinearProduct product_;
    Requantizer requantizer_;
    std::optional<Share> columns_;
};

}  // namespace scanwright
