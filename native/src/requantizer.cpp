#include "requantizer.hpp"

#include <algorithm>
#include <cmath>

namespace scanwright {

namespace {

constexpr double single_exact = 1 << 24;
// The largest magnitude and shift for which no sum of int32 rounding overflows.
constexpr double shift_bound = 1 << 30;
constexpr std::int32_t largest_shift = 30;
constexpr std::int32_t single_bias = 127;  // of a float's exponent

}  // namespace

Aligned<double> powers_of_two(const Integers& shifts) {
    Aligned<double> scale(padded(shifts.size()), 0.0);
    std::transform(shifts.begin(), shifts.end(), scale.begin(),
                   [](std::int32_t shift) { return std::ldexp(1.0, -shift); });
    return scale;
}

Values padded_values(const Integers& values) {
    Values result(padded(values.size()), 0);
    std::copy(values.begin(), values.end(), result.begin());
    return result;
}

Requantizer::Requantizer(const Integers& shifts, Limits limits, double largest)
    : scale_(powers_of_two(shifts)), limits_(limits) {
    if (largest <= single_exact) {
        exponent_.assign(scale_.size(), 0);
        std::transform(shifts.begin(), shifts.end(), exponent_.begin(), [](std::int32_t shift) {
            return static_cast<std::uint8_t>(single_bias - shift);
        });
        return;
    }
    const auto fits = [](std::int32_t shift) { return shift >= 0 && shift <= largest_shift; };
    if (largest > shift_bound || !std::all_of(shifts.begin(), shifts.end(), fits)) return;
    const auto differs = [&](std::int32_t shift) { return shift != shifts.front(); };
    if (!shifts.empty() && std::none_of(shifts.begin(), shifts.end(), differs)) {
        uniform_ = shifts.front();
        return;
    }
    shift_.assign(scale_.size(), largest_shift);  // padding becomes zero
    std::copy(shifts.begin(), shifts.end(), shift_.begin());
}

void Requantizer::run(const Kernels& kernels, const Rows32& values, std::size_t count,
                      Rows32& out) const {
    if (&out != &values) out.shape(count, values.width());
    const Rounding own = rounding();
    for (std::size_t i = 0; i < count; ++i) {
        if (is_single()) {
            kernels.round(values.row(i), own, out.row(i), scale_.size());
        } else {
            kernels.requantize(values.row(i), scale_.data(), limits_, out.row(i), scale_.size());
        }
    }
}

CodeRange::CodeRange(const Integers& zero, int bits) : low_(zero), span_((1 << bits) - 1) {
    for (std::int32_t& low : low_) low = -low;
}

void CodeRange::run(std::size_t count, Rows32& values) const {
    for (std::size_t i = 0; i < count; ++i) {
        std::int32_t* row = values.row(i);
        for (std::size_t e = 0; e < low_.size(); ++e) {
            row[e] = std::clamp(row[e], low_[e], low_[e] + span_);
        }
    }
}

}  // namespace scanwright
