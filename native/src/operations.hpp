// The operations of docs/numerics.md on blocks of tokens, each with its constants prepared.
//
// Every operation takes and gives int32 matrices, (tokens, channels) with padded rows. A block of a
// network is a sequence of them; a new family adds operations and a sequence, not another engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "decay.hpp"
#include "products.hpp"
#include "program.hpp"

namespace scanwright {

class Normalization {
public:
    Normalization() = default;
    Normalization(const Network& network, const NormWeight& weight, int output_bits);

    // The same of `groups` of channels each by itself, whose integers have `fraction` bits.
    Normalization(const Network& network, const Integers& weight, int shift, int fraction,
                  std::size_t groups, int output_bits);
    void run(const Kernels& kernels, const Rows32& residual, std::size_t count, Rows32& out) const;
    std::size_t width() const { return groups_ * constants_.count; }

private:
    Aligned<double> weight_;  // (groups, padded)
    Integers base_, slope_;
    std::size_t groups_ = 1;
    NormConstants constants_{};
};

// The last K - 1 inputs of a convolution, a ring of padded rows.
class Window {
public:
    Window() = default;
    Window(std::size_t count, std::size_t channels)
        : values_(count * padded(channels), 0), count_(count), stride_(padded(channels)) {}

    std::size_t count() const { return count_; }
    // The row `index` places behind the oldest.
    const std::int32_t* row(std::size_t index) const { return values_.data() + at(index); }
    std::int32_t* row(std::size_t index) { return values_.data() + at(index); }

    // Puts a row in the place of the oldest.
    void push(const std::int32_t* values) {
        std::copy_n(values, stride_, row(0));
        advance();
    }
    // Makes the oldest row, which its caller has written over, the newest.
    void advance() { oldest_ = oldest_ + 1 < count_ ? oldest_ + 1 : 0; }
    void clear() { std::fill(values_.begin(), values_.end(), 0); }

private:
    std::size_t at(std::size_t index) const {
        const std::size_t place = oldest_ + index;
        return (place < count_ ? place : place - count_) * stride_;
    }

    Values values_;
    std::size_t count_ = 0, stride_ = 0, oldest_ = 0;
};

class Convolution {
public:
    Convolution() = default;
    Convolution(const Matrix& matrix, int input_bits, const Integers& shifts);

    // `window` holds the K - 1 inputs before the tokens, and is advanced.
    void run(const Kernels& kernels, const Rows32& x, std::size_t tokens, Window& window,
             Rows32& out) const;

    // Looks as far ahead as back in a whole sequence, beyond whose ends the inputs are zero.
    void run_centred(const Kernels& kernels, const Rows32& x, std::size_t tokens,
                     Rows32& out) const;

private:
    ConvolutionConstants constants() const;

    Aligned<std::int8_t> taps_;
    Values bias_;
    std::size_t count_ = 0, channels_ = 0;
    Requantizer requantizer_;
};

// SiLU, softplus or sigmoid before requantizing, with 23 fraction bits.
class Activation {
public:
    enum class Kind { silu, softplus, sigmoid };
    Activation() = default;
    Activation(Kind kind, const LinearTable& table);
    void run(const Kernels& kernels, const Rows32& x, std::size_t count, Rows32& out) const {
        run(kernels, x, count, nullptr, out);
    }

    // The same with a requantizer behind it. `out` may be `x`.
    void run(const Kernels& kernels, const Rows32& x, std::size_t count,
             const Requantizer& requantizer, Rows32& out) const;

private:
    void run(const Kernels& kernels, const Rows32& x, std::size_t count,
             const Rounding* rounding, Rows32& out) const;

    Kind kind_ = Kind::silu;
    Aligned<Line> table_;
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
    bool is_narrow(const Network& network, const Layer& layer) const;
    void prepare_single();
    void prepare_outputs(const Network& network, const Layer& layer);
    ScanConstants constants_of(std::size_t group, const Rounding* rounding) const;
    bool is_spread() const;
    void spread(const Rows32& values, std::size_t share, std::size_t tokens, Rows32& out) const;

    Shape shape_;
    std::size_t blocks_ = 0;  // of one group's channels
    Aligned<float> rate_, drive_scale_, narrow_skip_;
    Aligned<double> update_scale_, skip_;
    std::vector<std::uint8_t> whole_updates_;
    Requantizer outputs_;
    std::shared_ptr<const DecayTable> decay_;
    ScanConstants constants_{};
};

// The requantized product of two vectors.
class Gate {
public:
    Gate() = default;

    // `product_bits` is the width of a product of the two.
    Gate(const Integers& shifts, Limits limits, int product_bits)
        : requantizer_(shifts, limits, std::ldexp(1.0, product_bits - 1)) {}
    void run(const Kernels& kernels, const Rows32& left, const Rows32& right, std::size_t count,
             Rows32& out) const;

private:
    Requantizer requantizer_;
};

// The Hadamard transform and the requantizer behind it.
class Rotation {
public:
    Rotation() = default;

    // `bits` is the width of what is rotated.
    Rotation(const Integers& shifts, Limits limits, int bits);
    void run(const Kernels& kernels, const Rows32& values, std::size_t count, Rows32& out) const;

private:
    template <typename T>
    void apply_block(const std::int32_t* values, T* sums) const;
    void run_wide(const std::int32_t* values, std::int32_t* out) const;

    std::size_t order_ = 0, block_ = 1;
    std::vector<std::int32_t> matrix_;
    bool wide_ = false;  // int32 does not hold the sums
    Limits limits_{};
    Requantizer requantizer_;
};

}  // namespace scanwright
