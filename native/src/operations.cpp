#include "operations.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "hadamard.hpp"
#include "scratch.hpp"

namespace scanwright {

Normalization::Normalization(const Network& network, const NormWeight& weight, int output_bits)
    : Normalization(network, weight.weight, weight.shift, network.residual_fraction, 1,
                    output_bits) {}

Normalization::Normalization(const Network& network, const Integers& weight, int shift,
                             int fraction, std::size_t groups, int output_bits)
    : base_(network.tables.reciprocal.base),
      slope_(network.tables.reciprocal.slope),
      groups_(groups) {
    const std::size_t size = weight.size() / groups;
    weight_.assign(groups * padded(size), 0.0);
    for (std::size_t i = 0; i < weight.size(); ++i) {
        weight_[i / size * padded(size) + i % size] = std::ldexp(weight[i], -shift);
    }
    constants_.epsilon = norm_epsilon(size, fraction);
    constants_.limits = Limits::of_signed(output_bits);
    constants_.count = size;
    constants_.padded = padded(size);
}

void Normalization::run(const Kernels& kernels, const Rows32& residual, std::size_t count,
                        Rows32& out) const {
    const std::size_t size = constants_.count;
    out.shape(count, groups_ * size);
    NormConstants constants = constants_;
    constants.base = base_.data();
    constants.slope = slope_.data();
    constants.weight = weight_.data();
    for (std::size_t i = 0; groups_ == 1 && i < count; ++i) {
        kernels.normalize(residual.row(i), constants, out.row(i));
    }
    if (groups_ == 1) return;
    // A group need not begin where a register does, so each has its turn in a row of its own.
    std::int32_t* own = thread_scratch<std::int32_t>(2 * padded(size));
    std::int32_t* normalized = own + padded(size);
    std::fill_n(own, padded(size), 0);
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t group = 0; group < groups_; ++group) {
            std::copy_n(residual.row(i) + group * size, size, own);
            constants.weight = weight_.data() + group * padded(size);
            kernels.normalize(own, constants, normalized);
            std::copy_n(normalized, size, out.row(i) + group * size);
        }
    }
}

Convolution::Convolution(const Matrix& matrix, int input_bits, const Integers& shifts)
    : taps_(matrix.columns * padded(matrix.rows), 0),
      bias_(padded_values(matrix.bias)),
      count_(matrix.columns),
      channels_(matrix.rows),
      requantizer_(shifts, Limits::of_signed(activation_input_bits),
                   static_cast<double>(accumulator_bound(matrix, matrix.bias, input_bits, 0,
                                                         matrix.rows))) {
    for (std::size_t e = 0; e < channels_; ++e) {
        for (std::size_t tap = 0; tap < count_; ++tap) {
            taps_[tap * padded(channels_) + e] =
                static_cast<std::int8_t>(matrix.weight[e * count_ + tap]);
        }
    }
}

void Convolution::run(const Kernels& kernels, const Rows32& x, std::size_t tokens, Window& window,
                      Rows32& out) const {
    out.shape(tokens, channels_);
    const std::size_t past = window.count();
    // One token takes its place in the window as it is read.
    std::int32_t* const kept = tokens == 1 && past > 0 ? window.row(0) : nullptr;
    const Rounding rounding = requantizer_.rounding();
    const bool single = requantizer_.is_single();
    const std::int32_t** rows = thread_scratch<const std::int32_t*>(count_);
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t tap = 0; tap < count_; ++tap) {
            const std::size_t row = t + tap;
            rows[tap] = row < past ? window.row(row) : x.row(row - past);
        }
        kernels.convolve(rows, constants(), single ? &rounding : nullptr, kept, out.row(t));
    }
    if (!single) requantizer_.run(kernels, out, tokens, out);
    if (kept != nullptr) {
        window.advance();
        return;
    }
    for (std::size_t t = tokens - std::min(tokens, past); t < tokens; ++t) window.push(x.row(t));
}

void Convolution::run_centred(const Kernels& kernels, const Rows32& x, std::size_t tokens,
                              Rows32& out) const {
    out.shape(tokens, channels_);
    const std::size_t half = count_ / 2;
    const Values zeros(padded(channels_), 0);
    const Rounding rounding = requantizer_.rounding();
    const bool single = requantizer_.is_single();
    const std::int32_t** rows = thread_scratch<const std::int32_t*>(count_);
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t tap = 0; tap < count_; ++tap) {
            const bool inside = t + tap >= half && t + tap - half < tokens;
            rows[tap] = inside ? x.row(t + tap - half) : zeros.data();
        }
        kernels.convolve(rows, constants(), single ? &rounding : nullptr, nullptr, out.row(t));
    }
    if (!single) requantizer_.run(kernels, out, tokens, out);
}

ConvolutionConstants Convolution::constants() const {
    return {taps_.data(), bias_.data(), count_, padded(channels_)};
}

Activation::Activation(Kind kind, const LinearTable& table) : kind_(kind) {
    for (std::size_t i = 0; i < table.base.size(); ++i) {
        table_.push_back({table.base[i], table.slope[i]});
    }
    table_.push_back({0, 0});
}

void Activation::run(const Kernels& kernels, const Rows32& x, std::size_t count,
                     const Rounding* rounding, Rows32& out) const {
    if (&out != &x) out.shape(count, x.width());
    const auto function = kind_ == Kind::silu       ? kernels.silu
                          : kind_ == Kind::softplus ? kernels.softplus
                                                    : kernels.sigmoid;
    for (std::size_t i = 0; i < count; ++i) {
        function(x.row(i), table_.data(), rounding, out.row(i), x.stride());
    }
}

void Activation::run(const Kernels& kernels, const Rows32& x, std::size_t count,
                     const Requantizer& requantizer, Rows32& out) const {
    const bool single = requantizer.is_single();
    const Rounding rounding = requantizer.rounding();
    run(kernels, x, count, single ? &rounding : nullptr, out);
    if (!single) requantizer.run(kernels, out, count, out);
}

DualScaleStorage::DualScaleStorage(const DualScale& dual, const Integers& shifts)
    : dual_(dual), channels_(shifts.size()), fine_(powers_of_two(shifts)), coarse_(fine_) {
    for (double& scale : coarse_) scale = std::ldexp(scale, -dual.ratio_log2);
}

void DualScaleStorage::run(const Kernels& kernels, const Rows32& activated, std::size_t count,
                           Rows32& out) const {
    out.shape(count, channels_);
    const DualScaleConstants constants{fine_.data(), coarse_.data(),
                                       static_cast<double>(dual_.code_limit()),
                                       std::ldexp(1.0, dual_.ratio_log2)};
    for (std::size_t i = 0; i < count; ++i) {
        kernels.dual_scale(activated.row(i), constants, out.row(i), fine_.size());
    }
}

void DualScaleStorage::words(const Rows32& activated, std::size_t count, Rows32& out) const {
    out.shape(count, channels_);
    const double limit = dual_.code_limit();
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t e = 0; e < channels_; ++e) {
            const double fine = std::nearbyint(activated.row(i)[e] * fine_[e]);
            const bool flag = std::abs(fine) > limit;
            const double code = flag ? std::nearbyint(activated.row(i)[e] * coarse_[e]) : fine;
            const auto narrow = static_cast<std::int32_t>(std::clamp(code, -limit, limit));
            out.row(i)[e] =
                (narrow & ((1 << dual_.code_bits) - 1)) | (flag ? 1 << dual_.code_bits : 0);
        }
    }
}

void Gate::run(const Kernels& kernels, const Rows32& left, const Rows32& right, std::size_t count,
               Rows32& out) const {
    if (&out != &left) out.shape(count, left.width());
    const Rounding rounding = requantizer_.rounding();
    for (std::size_t i = 0; i < count; ++i) {
        if (requantizer_.is_single()) {
            kernels.multiply_integers(left.row(i), right.row(i), rounding, out.row(i), out.stride());
        } else {
            kernels.multiply(left.row(i), right.row(i), requantizer_.scale(),
                             requantizer_.limits(), out.row(i), out.stride());
        }
    }
}

Rotation::Rotation(const Integers& shifts, Limits limits, int bits)
    : order_(shifts.size()),
      block_(check_hadamard_order(shifts.size())),
      matrix_(hadamard_block(block_)),
      limits_(limits) {
    const double largest = std::ldexp(static_cast<double>(order_), bits - 1);
    wide_ = largest >= 0x1p31;
    requantizer_ = Requantizer(shifts, limits, largest);
}

template <typename T>
void Rotation::apply_block(const std::int32_t* values, T* sums) const {
    for (std::size_t first = 0; first < order_; first += block_) {
        for (std::size_t a = 0; a < block_; ++a) {
            std::int32_t sum = 0;  // of at most 20 values of 18 bits
            for (std::size_t j = 0; j < block_; ++j) {
                sum += matrix_[a * block_ + j] * values[first + j];
            }
            sums[first + a] = sum;
        }
    }
}

void Rotation::run_wide(const std::int32_t* values, std::int32_t* out) const {
    auto* sums = thread_scratch<double>(order_);
    apply_block(values, sums);
    double_transform(sums, block_, order_);
    for (std::size_t e = 0; e < order_; ++e) {
        const double rounded = std::nearbyint(sums[e] * requantizer_.scale()[e]);
        out[e] = static_cast<std::int32_t>(std::clamp(rounded, limits_.low, limits_.high));
    }
}

void Rotation::run(const Kernels& kernels, const Rows32& values, std::size_t count,
                   Rows32& out) const {
    out.shape(count, order_);
    for (std::size_t i = 0; i < count; ++i) {
        if (wide_) {
            run_wide(values.row(i), out.row(i));
            continue;
        }
        if (block_ == 1) {
            std::copy_n(values.row(i), order_, out.row(i));
        } else {
            apply_block(values.row(i), out.row(i));
        }
        kernels.rotate(out.row(i), block_, order_);
    }
    if (!wide_) requantizer_.run(kernels, out, count, out);
}

}  // namespace scanwright
