// The operations of docs/numerics.md on blocks of tokens, each with its constants prepared.
//
// Every operation takes and gives int32 matrices, (tokens, channels) with padded rows. A block of a
// network is a sequence of them; a new family adds operations and a sequence, not another engine.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.hpp"
#include "program.hpp"

namespace scanwright {

// An int32 matrix that grows to what is asked of it and is reused from call to call.
class Rows32 {
public:
    // Makes room for `count` rows of `width` values; what was in them is lost.
    void shape(std::size_t count, std::size_t width) {
        stride_ = padded(width);
        width_ = width;
        if (values_.size() < count * stride_) values_.resize(count * stride_);
    }
    std::int32_t* row(std::size_t index) { return values_.data() + index * stride_; }
    const std::int32_t* row(std::size_t index) const { return values_.data() + index * stride_; }
    std::size_t stride() const { return stride_; }
    std::size_t width() const { return width_; }

private:
    Values values_;
    std::size_t stride_ = 0, width_ = 0;
};

// 2**-shift of every channel, padded.
Aligned<double> powers_of_two(const Integers& shifts);

// Integers padded with zeros.
Values padded_values(const Integers& values);

// Rounds and saturates, one shift a channel.
class Requantizer {
public:
    Requantizer() = default;

    // `largest` bounds the magnitude of what will be requantized; it selects the arithmetic.
    Requantizer(const Integers& shifts, Limits limits, double largest);

    // `out` may be `values`.
    void run(const Kernels& kernels, const Rows32& values, std::size_t count, Rows32& out) const;

    const double* scale() const { return scale_.data(); }
    Limits limits() const { return limits_; }

private:
    Aligned<double> scale_;
    Aligned<float> single_;  // empty where float32 does not hold the values
    Limits limits_{};
};

// Saturates to what unsigned codes of `bits` less a zero point a channel can be.
class CodeRange {
public:
    CodeRange(const Integers& zero, int bits);
    void run(std::size_t count, Rows32& values) const;

private:
    Integers low_;
    std::int32_t span_;
};

// A matrix-vector product in int32, for inputs and weights of any width up to 16 bits.
class LinearProduct {
public:
    LinearProduct() = default;

    // Takes `count` rows of `matrix` from `first` on.
    LinearProduct(const Matrix& matrix, int input_bits, std::size_t first, std::size_t count);
    LinearProduct(const Matrix& matrix, int input_bits)
        : LinearProduct(matrix, input_bits, 0, matrix.rows) {}

    void run(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
             Rows32& totals) const {
        run(kernels, inputs, 0, tokens, totals);
    }

    // The same of the inputs from row `first` on.
    void run(const Kernels& kernels, const Rows32& inputs, std::size_t first, std::size_t tokens,
             Rows32& totals) const;

    // The largest magnitude of a total.
    double largest() const { return largest_; }

private:
    std::size_t rows_ = 0, columns_ = 0;
    bool bytes_ = true;
    Aligned<std::int8_t> byte_weights_;
    Aligned<std::int16_t> word_weights_;
    Values start_;
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

    void run(const Kernels& kernels, const Rows32& inputs, std::size_t tokens, Rows32& out) const;

    // Adds the requantized result to the residual.
    void add(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
             Rows32& residual) const;

private:
    LinearProduct product_;
    Requantizer requantizer_;
};

class Normalization {
public:
    Normalization() = default;
    Normalization(const Network& network, const NormWeight& weight, int output_bits);

    // The same of `groups` of channels each by itself, whose integers have `fraction` bits.
    Normalization(const Network& network, const Integers& weight, int shift, int fraction,
                  std::size_t groups, int output_bits);
    void run(const Kernels& kernels, const Rows32& residual, std::size_t count, Rows32& out) const;

private:
    Aligned<double> weight_;  // (groups, padded)
    Integers base_, slope_;
    std::size_t groups_ = 1;
    NormConstants constants_{};
};

class Convolution {
public:
    Convolution() = default;
    Convolution(const Matrix& matrix, const Integers& shifts);

    // `window` holds the K - 1 inputs before the tokens, oldest first, and is advanced.
    void run(const Kernels& kernels, const Rows32& x, std::size_t tokens, Values& window,
             Rows32& out) const;

    // Looks as far ahead as back in a whole sequence, beyond whose ends the inputs are zero.
    void run_centred(const Kernels& kernels, const Rows32& x, std::size_t tokens,
                     Rows32& out) const;

private:
    ConvolutionConstants constants() const;

    Values taps_, bias_;
    Aligned<double> scale_;
    std::size_t count_ = 0, channels_ = 0;
};

// SiLU, softplus or sigmoid before requantizing, with 23 fraction bits.
class Activation {
public:
    enum class Kind { silu, softplus, sigmoid };
    Activation() = default;
    Activation(Kind kind, const LinearTable& table);
    void run(const Kernels& kernels, const Rows32& x, std::size_t count, Rows32& out) const;

private:
    Kind kind_ = Kind::silu;
    Integers base_, slope_;
};

// How the scan's input is stored by dual scale, and what it is when it is read.
class DualScaleStorage {
public:
    DualScaleStorage() = default;
    DualScaleStorage(const DualScale& dual, const Integers& shifts);
    void run(const Kernels& kernels, const Rows32& activated, std::size_t count, Rows32& out) const;

    // The stored words: the code, and the flag above it. For probes.
    void words(const Rows32& activated, std::size_t count, Rows32& out) const;

private:
    DualScale dual_;
    std::size_t channels_ = 0;
    Aligned<double> fine_, coarse_;
};

// Where a scan keeps state n of channel e: blocks of 16 channels, which no two groups share.
std::size_t scan_channel(const Shape& shape, std::size_t channel);
std::size_t scan_index(const Shape& shape, std::size_t channel, std::size_t n);
std::size_t scan_size(const Shape& shape);

// 2**-argument of every argument, and how the float32 kernel computes it.
//
// The kernel has the mantissa of 2**-f as lines base - slope f over f in [0, 1), with f / 2 added: so
// it stays in [1/2, 1], where equal steps of the value are equal steps of the float's bits.
// Subtracting the whole argument from the bits then takes f / 2 back and divides by 2**(integer
// part) at once.
struct DecayTable {
    DecayTable(const LinearTable& table, int decay_bits);

    Integers all;
    Aligned<float> base, slope;
    bool narrow;  // the kernel's decays are those of the table, for every argument

private:
    double narrow_decay(std::int32_t argument) const;  // in the kernel's steps
};

class Scan {
public:
    Scan() = default;
    Scan(const Network& network, const Layer& layer, std::shared_ptr<const DecayTable> decay);

    struct Inputs {
        const Rows32& delta;      // one a channel, with heads one a head
        const Rows32& u;
        const Rows32& selection;  // where B and C are: projected, with heads u
    };
    void run(const Kernels& kernels, const Inputs& inputs, std::size_t tokens, float* state,
             Rows32& y) const;

private:
    bool prepare_narrow(const Network& network, const Layer& layer);
    ScanConstants constants_of(std::size_t group) const;
    void spread(const Rows32& values, std::size_t share, std::size_t tokens, Rows32& out) const;

    Shape shape_;
    std::size_t blocks_ = 0;  // of one group's channels
    Aligned<float> rate_, drive_scale_;
    Aligned<double> update_scale_, skip_, output_scale_;
    std::shared_ptr<const DecayTable> decay_;
    ScanConstants constants_{};
};

// The requantized product of two vectors.
class Gate {
public:
    Gate() = default;
    Gate(const Integers& shifts, Limits limits) : scale_(powers_of_two(shifts)), limits_(limits) {}
    void run(const Kernels& kernels, const Rows32& left, const Rows32& right, std::size_t count,
             Rows32& out) const;

private:
    Aligned<double> scale_;
    Limits limits_{};
};

// The Hadamard transform and the requantizer behind it.
class Rotation {
public:
    Rotation() = default;
    Rotation(const Integers& shifts, Limits limits);
    void run(const Kernels& kernels, const Rows32& values, std::size_t count, Rows32& out) const;

private:
    std::size_t order_ = 0, block_ = 1;
    std::vector<std::int32_t> matrix_;
    Aligned<double> scale_;
    Limits limits_{};
};

}  // namespace scanwright
