#include "reader.hpp"

#include <algorithm>
#include <cstdlib>

namespace scanwright {

namespace {

constexpr int accumulator_bits = 32;
constexpr int smallest_shift = -12, largest_shift = 31;
constexpr const char* remedy = "; regenerate the artifact with model.quantize";

std::string shape_text(const std::vector<std::size_t>& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    }
    return text + (shape.size() == 1 ? ",)" : ")");
}

std::string range_text(std::int64_t low, std::int64_t high) {
    return std::to_string(low) + ".." + std::to_string(high);
}

}  // namespace

Integers Reader::tensor(const std::string& name, const std::vector<std::size_t>& shape, int bits,
                        bool is_signed) const {
    const auto found = artifact_.tensors.find(name);
    if (found == artifact_.tensors.end()) throw Error("lacks '" + name + "'");
    const Tensor& tensor = found->second;
    if (tensor.shape != shape) {
        throw Error(name + " has shape " + shape_text(tensor.shape) +
                    ", the program's sizes need " + shape_text(shape) + remedy);
    }
    const std::int64_t range = std::int64_t{1} << bits;
    const std::int64_t low = is_signed ? -range / 2 : 0, high = low + range - 1;
    const auto [least, most] = std::minmax_element(tensor.values.begin(), tensor.values.end());
    if (!tensor.values.empty() && (*least < low || *most > high)) {
        throw Error(name + " spans " + range_text(*least, *most) + ", outside " +
                    range_text(low, high) + " of its " + std::to_string(bits) + "-bit format" +
                    remedy);
    }
    return tensor.values;
}

Matrix Reader::matrix(const std::string& name, std::size_t rows, std::size_t columns,
                      int weight_bits, int input_bits, bool biased) const {
    Matrix matrix;
    matrix.rows = rows;
    matrix.columns = columns;
    matrix.weight = tensor(name + ".weight", {rows, columns}, weight_bits);
    matrix.fraction_bits = tensor(name + ".fraction_bits", {rows}, 8);
    const bool has_bias = artifact_.tensors.count(name + ".bias") != 0;
    if (has_bias != biased) {
        throw Error(name + (biased ? " lacks its bias; store zeros instead"
                                   : " has a bias, which this network has no place for"));
    }
    if (biased) matrix.bias = tensor(name + ".bias", {rows}, accumulator_bits);
    check_accumulator(name, matrix, matrix.bias, input_bits);
    return matrix;
}

Matrix Reader::block_matrix(const std::string& name, std::size_t rows, std::size_t columns,
                            const Scheme& scheme, int input_bits, bool biased) const {
    Matrix own = matrix(name, rows, columns, scheme.weight_bits, input_bits, biased);
    const std::int32_t least = *std::min_element(own.weight.begin(), own.weight.end());
    if (scheme.ternary && least < -1) {
        throw Error(name + ".weight holds " + std::to_string(least) + ", scheme " + scheme.name +
                    " is ternary; round to -1, 0 and 1");
    }
    // dt_proj, the one with a bias, has one scale a row.
    if (!biased && scheme.weight_group && columns > static_cast<std::size_t>(*scheme.weight_group)) {
        scale_groups(name, *scheme.weight_group, own);
        check_accumulator(name, own, own.bias, input_bits);
    }
    return own;
}

void Reader::scale_groups(const std::string& name, std::size_t group, Matrix& matrix) const {
    constexpr int shift_bits = 2;
    const std::size_t groups = (matrix.columns + group - 1) / group;
    const Integers shift = tensor(name + ".group_shift", {matrix.rows, groups}, shift_bits, false);
    for (std::size_t row = 0; row < matrix.rows; ++row) {
        for (std::size_t column = 0; column < matrix.columns; ++column) {
            matrix.weight[row * matrix.columns + column] *= 1 << shift[row * groups + column / group];
        }
    }
}

NormWeight Reader::norm(const std::string& name, const Network& network, int weight_fraction,
                        int output_fraction) const {
    return {tensor(name, {network.shape.d_model}, network.scheme.norm_weight_bits),
            checked_shift(name, normalized_fraction + weight_fraction - output_fraction)};
}

LinearTable Reader::table(const std::string& name, std::size_t segments) const {
    // Wider than any table of golden.piecewise, and narrow enough for int32 in the kernels.
    constexpr int base_bits = 25, slope_bits = 16;
    const std::string full = "tables." + name;
    return {tensor(full + ".base", {segments}, base_bits, false),
            tensor(full + ".slope", {segments}, slope_bits)};
}

std::int64_t accumulator_bound(const Matrix& matrix, const Integers& bias, int input_bits,
                               std::size_t first, std::size_t count) {
    std::int64_t largest = 0;
    for (std::size_t row = first; row < first + count; ++row) {
        std::int64_t sum = 0;
        for (std::size_t column = 0; column < matrix.columns; ++column) {
            sum += std::abs(std::int64_t{matrix.weight[row * matrix.columns + column]});
        }
        sum <<= input_bits - 1;
        if (!bias.empty()) sum += std::abs(std::int64_t{bias[row]});
        largest = std::max(largest, sum);
    }
    return largest;
}

void check_accumulator(const std::string& name, const Matrix& matrix, const Integers& bias,
                       int input_bits) {
    const std::int64_t largest = accumulator_bound(matrix, bias, input_bits, 0, matrix.rows);
    constexpr std::int64_t limit = (std::int64_t{1} << (accumulator_bits - 1)) - 1;
    if (largest > limit) {
        throw Error(name + " can accumulate up to " + std::to_string(largest) +
                    ", the limit of an int32 accumulator is " + std::to_string(limit) +
                    "; use fewer weight bits");
    }
}

void check_members(const std::string& name, const Json& object,
                   std::initializer_list<const char*> known) {
    for (const auto& [member, value] : object.members()) {
        if (std::find(known.begin(), known.end(), member) == known.end()) {
            throw Error(name + " asks for '" + member + "', which the C++ executor does not know; "
                        "run the program with golden.executor");
        }
    }
}

int integer_within(const Json& object, const std::string& name, std::int64_t low,
                   std::int64_t high) {
    const std::int64_t value = object.at(name).integer();
    if (value < low || value > high) {
        throw Error(name + " = " + std::to_string(value) + " is outside " + range_text(low, high) +
                    "; choose a value in that range");
    }
    return static_cast<int>(value);
}

int fraction_of(const Json& object, const std::string& name) {
    return integer_within(object, name, -1000, 1000);
}

Integers checked_shifts(const std::string& name, std::size_t count,
                        const std::function<std::int64_t(std::size_t)>& shift) {
    Integers shifts(count);
    std::int64_t least = count == 0 ? 0 : shift(0), most = least;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t value = shift(i);
        least = std::min(least, value);
        most = std::max(most, value);
        shifts[i] = static_cast<std::int32_t>(value);
    }
    if (least < smallest_shift || most > largest_shift) {
        throw Error("the requantizing shift of " + name + " spans " + range_text(least, most) +
                    ", outside " + range_text(smallest_shift, largest_shift) +
                    "; choose nearer fraction bits when quantizing");
    }
    return shifts;
}

int checked_shift(const std::string& name, std::int64_t shift) {
    return checked_shifts(name, 1, [=](std::size_t) { return shift; })[0];
}

}  // namespace scanwright
