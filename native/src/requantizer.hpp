// Matrices of integers, and the rounding that makes them narrower.
#pragma once

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

    // Whether 32-bit arithmetic does it, as it does but for sums too wide; then a kernel can round
    // what it computes.
    bool is_single() const { return !exponent_.empty() || uniform_ >= 0 || !shift_.empty(); }
    // What a kernel needs for it, from channel `first` on.
    Rounding rounding(std::size_t first = 0) const {
        const auto from = [&](const Aligned<std::uint8_t>& values) {
            return values.empty() ? nullptr : values.data() + first;
        };
        return {from(exponent_),
                uniform_,
                from(shift_),
                static_cast<std::int32_t>(limits_.low),
                static_cast<std::int32_t>(limits_.high),
                static_cast<float>(limits_.low),
                static_cast<float>(limits_.high)};
    }
    const double* scale() const { return scale_.data(); }
    Limits limits() const { return limits_; }

private:
    Aligned<double> scale_;
    Aligned<std::uint8_t> exponent_;  // empty where float32 does not hold the values
    std::int32_t uniform_ = -1;       // the shift of all channels, where int32 is taken
    Aligned<std::uint8_t> shift_;     // empty unless int32 is taken, and channels differ
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

}  // namespace scanwright
