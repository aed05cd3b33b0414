// The operations of docs/numerics.md on blocks of tokens, each with its constants prepared.
//
// Every operation takes and gives int32 matrices, (tokens, channels) with padded rows. A block of a
// network is a sequence of them; a new family adds operations and a sequence, not another engine.
#pragma once

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
    void run(const Kernels& kernels, const Rows32& residual, std::size_t count, Rows32& out,
             Ahead ahead = {}) const;

private:
    Aligned<double> weight_;  // (groups, padded)
    Integers base_, slope_;
    std::size_t groups_ = 1;
    NormConstants constants_{};
};

class Convolution {
public:
    Convolution() = default;
    Convolution(const Matrix& matrix, int input_bits, const Integers& shifts);

    // `window` holds the K - 1 inputs before the tokens, oldest first, and is advanced.
    void run(const Kernels& kernels, const Rows32& x, std::size_t tokens, Values& window,
             Rows32& out, Ahead& ahead) const;

    // Looks as far ahead as back in a whole sequence, beyond whose ends the inputs are zero.
    void run_centred(const Kernels& kernels, const Rows32& x, std::size_t tokens,
                     Rows32& out) const;

private:
    ConvolutionConstants constants() const;

    Values taps_, bias_;
    std::size_t count_ = 0, channels_ = 0;
    Requantizer requantizer_;
};

// SiLU, softplus or sigmoid before requantizing, with 23 fraction bits.
class Activation {
public:
    enum class Kind { silu, softplus, sigmoid };
    Activation() = default;
    Activation(Kind kind, const LinearTable& table);
    void run(const Kernels& kernels, const Rows32& x, std::size_t count, Rows32& out,
             Ahead ahead = {}) const {
        run(kernels, x, count, nullptr, out, ahead);
    }

    // The same with a requantizer behind it. `out` may be `x`.
    void run(const Kernels& kernels, const Rows32& x, std::size_t count,
             const Requantizer& requantizer, Rows32& out, Ahead ahead = {}) const;

private:
    void run(const Kernels& kernels, const Rows32& x, std::size_t count,
             const Rounding* rounding, Rows32& out, Ahead ahead) const;

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
             Rows32& y, Ahead ahead) const;

private:
    bool is_narrow(const Network& network, const Layer& layer) const;
    void prepare_single();
    ScanConstants constants_of(std::size_t group) const;
    void spread(const Rows32& values, std::size_t share, std::size_t tokens, Rows32& out) const;

    Shape shape_;
    std::size_t blocks_ = 0;  // of one group's channels
    Aligned<float> rate_, drive_scale_, narrow_skip_, narrow_output_scale_;
    Aligned<double> update_scale_, skip_, output_scale_;
    std::vector<std::uint8_t> whole_updates_;
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
    Rotation(const Integers& shifts, Limits limits);
    void run(const Kernels& kernels, const Rows32& values, std::size_t count, Rows32& out) const;

private:
    std::size_t order_ = 0, block_ = 1;
    std::vector<std::int32_t> matrix_;
    Aligned<double> scale_;
    Limits limits_{};
};

}  // namespace scanwright
