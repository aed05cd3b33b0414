#include "operations.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "hadamard.hpp"

namespace scanwright {

namespace {

constexpr double single_exact = 1 << 24;
constexpr int byte_offset = 128;

bool holds_bytes(const Matrix& matrix) {
    return std::all_of(matrix.weight.begin(), matrix.weight.end(),
                       [](std::int32_t weight) { return INT8_MIN <= weight && weight <= INT8_MAX; });
}

// Reused from call to call by each thread, so that a step allocates nothing.
template <typename T>
T* thread_scratch(std::size_t count) {
    thread_local Aligned<T> buffer;
    if (buffer.size() < count) buffer.resize(count);
    return buffer.data();
}

// Packs rows as kernels.hpp describes: chunks of blocks, groups of columns, blocks, rows.
template <std::size_t group_size, typename Weight>
Aligned<Weight> packed(const Matrix& matrix, std::size_t first, std::size_t count) {
    const std::size_t groups = padded(matrix.columns) / group_size;
    const std::size_t blocks = padded(count) / lanes;
    Aligned<Weight> weights(blocks * groups * lanes * group_size, Weight{0});
    Product<Weight, Weight> layout{};
    layout.weight = weights.data();
    layout.row_blocks = blocks;
    layout.groups = groups;
    for (std::size_t row = 0; row < count; ++row) {
        const Rows<Weight> rows = rows_of<group_size>(layout, row / lanes);
        Weight* start = weights.data() + (rows.first - weights.data());
        for (std::size_t column = 0; column < matrix.columns; ++column) {
            start[column / group_size * rows.stride + row % lanes * group_size +
                  column % group_size] =
                static_cast<Weight>(matrix.weight[(first + row) * matrix.columns + column]);
        }
    }
    return weights;
}

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
    if (largest < single_exact) single_.assign(scale_.begin(), scale_.end());
}

void Requantizer::run(const Kernels& kernels, const Rows32& values, std::size_t count,
                      Rows32& out) const {
    if (&out != &values) out.shape(count, values.width());
    for (std::size_t i = 0; i < count; ++i) {
        if (single_.empty()) {
            kernels.requantize(values.row(i), scale_.data(), limits_, out.row(i), scale_.size());
        } else {
            kernels.requantize_single(values.row(i), single_.data(), limits_, out.row(i),
                                      scale_.size());
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

LinearProduct::LinearProduct(const Matrix& matrix, int input_bits, std::size_t first,
                             std::size_t count)
    : rows_(count),
      columns_(matrix.columns),
      bytes_(input_bits <= 8 && holds_bytes(matrix)),
      start_(padded(count), 0) {
    for (std::size_t row = 0; row < count; ++row) {
        const std::int32_t* weight = matrix.weight.data() + (first + row) * columns_;
        std::int64_t sum = 0, magnitude = 0;
        for (std::size_t i = 0; i < columns_; ++i) {
            sum += weight[i];
            magnitude += std::abs(weight[i]);
        }
        const std::int64_t bias = matrix.bias.empty() ? 0 : matrix.bias[first + row];
        // Wraps where the offset leads out of int32; the sums wrap back.
        start_[row] = static_cast<std::int32_t>(
            static_cast<std::uint32_t>(bias - (bytes_ ? byte_offset * sum : 0)));
        largest_ = std::max(largest_, static_cast<double>((magnitude << (input_bits - 1)) +
                                                          std::abs(bias)));
    }
    if (bytes_) {
        byte_weights_ = packed<byte_group, std::int8_t>(matrix, first, count);
    } else {
        word_weights_ = packed<word_group, std::int16_t>(matrix, first, count);
    }
}

void LinearProduct::run(const Kernels& kernels, const Rows32& inputs, std::size_t first,
                        std::size_t tokens, Rows32& totals) const {
    totals.shape(tokens, rows_);
    const std::size_t width = padded(columns_), blocks = padded(rows_) / lanes;
    const auto run = [&](auto* narrow, const auto& weights, std::size_t group, auto convert,
                         auto multiply) {
        for (std::size_t i = 0; i < tokens; ++i) {
            convert(inputs.row(first + i), narrow + i * width, width);
        }
        multiply({weights.data(), blocks, width / group, start_.data(), narrow, width,
                  totals.row(0), totals.stride(), tokens});
    };
    if (bytes_) {
        run(thread_scratch<std::uint8_t>(tokens * width), byte_weights_, byte_group,
            kernels.to_bytes, kernels.multiply_bytes);
    } else {
        run(thread_scratch<std::int16_t>(tokens * width), word_weights_, word_group,
            kernels.to_words, kernels.multiply_words);
    }
}

void Linear::run(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
                 Rows32& out) const {
    product_.run(kernels, inputs, tokens, out);
    requantizer_.run(kernels, out, tokens, out);
}

void Linear::add(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
                 Rows32& residual) const {
    thread_local Rows32 totals;
    product_.run(kernels, inputs, tokens, totals);
    for (std::size_t i = 0; i < tokens; ++i) {
        kernels.add(totals.row(i), requantizer_.scale(), requantizer_.limits(), residual.row(i),
                    residual.stride());
    }
}

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
        weight_[i / size * padded(size) + i % size] = weight[i];
    }
    constants_.epsilon = norm_epsilon(size, fraction);
    constants_.scale = std::ldexp(1.0, -shift);
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

Convolution::Convolution(const Matrix& matrix, const Integers& shifts)
    : taps_(matrix.columns * padded(matrix.rows), 0),
      bias_(padded_values(matrix.bias)),
      scale_(powers_of_two(shifts)),
      count_(matrix.columns),
      channels_(matrix.rows) {
    for (std::size_t e = 0; e < channels_; ++e) {
        for (std::size_t tap = 0; tap < count_; ++tap) {
            taps_[tap * padded(channels_) + e] = matrix.weight[e * count_ + tap];
        }
    }
}

void Convolution::run(const Kernels& kernels, const Rows32& x, std::size_t tokens, Values& window,
                      Rows32& out) const {
    out.shape(tokens, channels_);
    const std::size_t past = count_ - 1, stride = padded(channels_);
    const std::int32_t** rows = thread_scratch<const std::int32_t*>(count_);
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t tap = 0; tap < count_; ++tap) {
            const std::size_t row = t + tap;
            rows[tap] = row < past ? window.data() + row * stride : x.row(row - past);
        }
        kernels.convolve(rows, constants(), Limits::of_signed(activation_input_bits), out.row(t));
    }
    const std::size_t kept = tokens < past ? past - tokens : 0, taken = past - kept;
    std::copy(window.end() - static_cast<std::ptrdiff_t>(kept * stride), window.end(),
              window.begin());
    std::copy_n(x.row(tokens - taken), taken * stride, window.data() + kept * stride);
}

void Convolution::run_centred(const Kernels& kernels, const Rows32& x, std::size_t tokens,
                              Rows32& out) const {
    out.shape(tokens, channels_);
    const std::size_t half = count_ / 2;
    const Values zeros(padded(channels_), 0);
    const std::int32_t** rows = thread_scratch<const std::int32_t*>(count_);
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t tap = 0; tap < count_; ++tap) {
            const bool inside = t + tap >= half && t + tap - half < tokens;
            rows[tap] = inside ? x.row(t + tap - half) : zeros.data();
        }
        kernels.convolve(rows, constants(), Limits::of_signed(activation_input_bits), out.row(t));
    }
}

ConvolutionConstants Convolution::constants() const {
    return {taps_.data(), bias_.data(), scale_.data(), count_, padded(channels_)};
}

Activation::Activation(Kind kind, const LinearTable& table)
    : kind_(kind), base_(table.base), slope_(table.slope) {
    base_.push_back(0);
    slope_.push_back(0);
}

void Activation::run(const Kernels& kernels, const Rows32& x, std::size_t count,
                     Rows32& out) const {
    out.shape(count, x.width());
    const ActivationTable table{base_.data(), slope_.data()};
    const auto function = kind_ == Kind::silu       ? kernels.silu
                          : kind_ == Kind::softplus ? kernels.softplus
                                                    : kernels.sigmoid;
    for (std::size_t i = 0; i < count; ++i) function(x.row(i), table, out.row(i), x.stride());
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
    out.shape(count, left.width());
    for (std::size_t i = 0; i < count; ++i) {
        kernels.multiply(left.row(i), right.row(i), scale_.data(), limits_, out.row(i),
                         scale_.size());
    }
}

Rotation::Rotation(const Integers& shifts, Limits limits)
    : order_(shifts.size()),
      block_(check_hadamard_order(shifts.size())),
      matrix_(hadamard_block(block_)),
      scale_(powers_of_two(shifts)),
      limits_(limits) {}

void Rotation::run(const Kernels& kernels, const Rows32& values, std::size_t count,
                   Rows32& out) const {
    out.shape(count, order_);
    double* sums = thread_scratch<double>(order_);
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t* row = values.row(i);
        for (std::size_t first = 0; first < order_; first += block_) {
            for (std::size_t a = 0; a < block_; ++a) {
                std::int32_t sum = 0;  // of at most 20 values of 18 bits
                for (std::size_t j = 0; j < block_; ++j) {
                    sum += matrix_[a * block_ + j] * row[first + j];
                }
                sums[first + a] = sum;
            }
        }
        kernels.rotate(sums, block_, order_, scale_.data(), limits_, out.row(i));
    }
}

}  // namespace scanwright
