#include "products.hpp"

#include <algorithm>

#include "scratch.hpp"
#include "team.hpp"

namespace scanwright {

namespace {

// Columns up to which the sums of high nibbles, 16 times as large, fit int32.
constexpr std::size_t nibble_columns = 1 << 15;

// Groups of columns, the last one padded with zeros.
std::size_t groups_of(std::size_t columns, std::size_t size) { return (columns + size - 1) / size; }

// Calls `set(element of the packed weights, column, weight)` for every weight; an element is one
// column's, of nibbles that of two columns.
template <std::size_t group_size, typename Weight, typename Function>
void for_each_weight(Aligned<Weight>& weights, std::size_t groups, const Matrix& matrix,
                     std::size_t first, std::size_t count, std::size_t group_columns,
                     const Function& set) {
    Product<Weight, Weight> layout{};
    layout.weight = weights.data();
    layout.row_blocks = padded(count) / lanes;
    layout.groups = groups;
    for (std::size_t row = 0; row < count; ++row) {
        const Rows<Weight> rows = rows_of<group_size>(layout, row / lanes);
        Weight* start = weights.data() + (rows.first - weights.data()) + row % lanes * group_size;
        for (std::size_t column = 0; column < matrix.columns; ++column) {
            const std::size_t within = column % group_columns;
            set(start[column / group_columns * rows.stride + within % group_size], within,
                matrix.weight[(first + row) * matrix.columns + column]);
        }
    }
}

template <std::size_t group_size, int offset, typename Weight>
Aligned<Weight> packed(const Matrix& matrix, std::size_t first, std::size_t count) {
    const std::size_t groups = groups_of(matrix.columns, group_size);
    Aligned<Weight> weights(padded(count) * groups * group_size, Weight{offset});
    for_each_weight<group_size>(weights, groups, matrix, first, count, group_size,
                                [](Weight& element, std::size_t, std::int32_t weight) {
                                    element = static_cast<Weight>(weight + offset);
                                });
    return weights;
}

Aligned<Nibbles> packed_nibbles(const Matrix& matrix, std::size_t first, std::size_t count) {
    constexpr std::size_t group_columns = 2 * nibble_group;
    constexpr auto zeros = static_cast<Nibbles>(nibble_offset | nibble_offset << 4);
    const std::size_t groups = groups_of(matrix.columns, group_columns);
    Aligned<Nibbles> weights(padded(count) * groups * nibble_group, zeros);
    for_each_weight<nibble_group>(
        weights, groups, matrix, first, count, group_columns,
        [](Nibbles& element, std::size_t column, std::int32_t weight) {
            const int shift = column < nibble_group ? 0 : 4;
            const int kept = static_cast<int>(element) & ~(15 << shift);
            element = static_cast<Nibbles>(kept | (weight + nibble_offset) << shift);
        });
    return weights;
}

Matrix columns_of(const Matrix& matrix, const Share& columns) {
    Matrix own = matrix;
    own.columns = columns.count;
    own.weight.clear();
    for (std::size_t row = 0; row < matrix.rows; ++row) {
        const auto first = matrix.weight.begin() +
                           static_cast<std::ptrdiff_t>(row * matrix.columns + columns.first);
        own.weight.insert(own.weight.end(), first,
                          first + static_cast<std::ptrdiff_t>(columns.count));
    }
    if (columns.first != 0) own.bias.clear();  // one share adds it
    return own;
}

}  // namespace

LinearProduct::LinearProduct(const Matrix& matrix, int input_bits, std::size_t first,
                             std::size_t count)
    : rows_(count), columns_(matrix.columns) {
    choose_packing(matrix, input_bits, first);
    if (!matrix.bias.empty()) {
        bias_.assign(padded(count), 0);
        std::copy_n(matrix.bias.begin() + static_cast<std::ptrdiff_t>(first), count, bias_.begin());
    }
    largest_ = static_cast<double>(accumulator_bound(matrix, matrix.bias, input_bits, first, count));
    pack(matrix, first);
}

void LinearProduct::choose_packing(const Matrix& matrix, int input_bits, std::size_t first) {
    const auto begin = matrix.weight.begin() + static_cast<std::ptrdiff_t>(first * columns_);
    const auto [least, most] =
        std::minmax_element(begin, begin + static_cast<std::ptrdiff_t>(rows_ * columns_));
    const auto within = [&](std::int32_t limit) { return *least >= -limit && *most < limit; };
    if (input_bits > 8 || !within(byte_offset)) {
        packing_ = Packing::words;
    } else if (within(nibble_offset) && columns_ <= nibble_columns) {
        packing_ = Packing::nibbles;
    }
}

void LinearProduct::pack(const Matrix& matrix, std::size_t first) {
    switch (packing_) {
        case Packing::nibbles: nibbles_ = packed_nibbles(matrix, first, rows_); break;
        case Packing::bytes:
            bytes_ = packed<byte_group, byte_offset, std::uint8_t>(matrix, first, rows_);
            break;
        case Packing::words:
            words_ = packed<word_group, 0, std::int16_t>(matrix, first, rows_);
            break;
    }
}

void LinearProduct::run(const Kernels& kernels, const Rows32& inputs, std::size_t first,
                        std::size_t tokens, const Rounding* rounding,
                        Rows32& totals, std::size_t column) const {
    totals.shape(tokens, rows_);
    const std::size_t width = padded(columns_), blocks = padded(rows_) / lanes;
    const auto run = [&](auto narrowed, const auto& weights, std::size_t group, auto convert,
                         auto multiply) {
        // The inputs, and behind them their sums.
        using Input = decltype(narrowed);
        const std::size_t groups = groups_of(columns_, group);
        const std::size_t words = tokens * width * sizeof(Input) / sizeof(std::int32_t);
        auto* sums = thread_scratch<std::int32_t>(words + tokens) + words;
        auto* narrow = reinterpret_cast<Input*>(sums - words);
        for (std::size_t i = 0; i < tokens; ++i) {
            sums[i] = convert(inputs.row(first + i) + column, narrow + i * width, groups * group);
        }
        multiply({weights.data(), blocks, groups, bias_.empty() ? nullptr : bias_.data(),
                  narrow, width, sums, totals.row(0), totals.stride(), tokens, rounding});
    };
    switch (packing_) {
        case Packing::nibbles:
            run(std::int8_t{}, nibbles_, 2 * nibble_group, kernels.to_bytes,
                kernels.multiply_nibbles);
            break;
        case Packing::bytes:
            run(std::int8_t{}, bytes_, byte_group, kernels.to_bytes, kernels.multiply_bytes);
            break;
        case Packing::words:
            run(std::int16_t{}, words_, word_group, kernels.to_words, kernels.multiply_words);
            break;
    }
}

Linear::Linear(const Matrix& matrix, int input_bits, const Integers& shifts, Limits limits,
               const std::optional<Share>& columns)
    : product_(columns ? columns_of(matrix, *columns) : matrix, input_bits),
      requantizer_(shifts, limits,
                   static_cast<double>(accumulator_bound(matrix, matrix.bias, input_bits, 0,
                                                         matrix.rows))),
      columns_(columns) {}

void Linear::run_shared(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
                        Rows32& out) const {
    Seat& seat = Seat::of_thread();
    Rows32& totals = seat.scratch();
    const std::size_t column = inputs.width() == product_.columns() ? 0 : columns_->first;
    product_.run(kernels, inputs, 0, tokens, nullptr, totals, column);
    seat.add_up(totals, tokens, out);
    requantizer_.run(kernels, out, tokens, out);
}

void Linear::run(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
                 Rows32& out) const {
    if (columns_) {
        run_shared(kernels, inputs, tokens, out);
        return;
    }
    const bool single = requantizer_.is_single();
    const Rounding rounding = requantizer_.rounding();
    product_.run(kernels, inputs, 0, tokens, single ? &rounding : nullptr, out);
    if (!single) requantizer_.run(kernels, out, tokens, out);
}

void Linear::add(const Kernels& kernels, const Rows32& inputs, std::size_t tokens,
                 Rows32& totals, Rows32& residual) const {
    run(kernels, inputs, tokens, totals);
    const Limits limits = requantizer_.limits();
    for (std::size_t i = 0; i < tokens; ++i) {
        kernels.add(totals.row(i), static_cast<std::int32_t>(limits.low),
                    static_cast<std::int32_t>(limits.high), residual.row(i), residual.stride());
    }
}

}  // namespace scanwright
