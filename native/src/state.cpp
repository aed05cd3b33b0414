// What a sequence leaves behind: kept as the kernels want it, saved in the golden model's order.
#include <algorithm>
#include <string>

#include "block.hpp"

namespace scanwright {

namespace {

// Calls `copy(plain index, kept element)` for every state of a block.
template <typename Block, typename Function>
void for_each_state(const Shape& shape, Block& block, const Function& copy) {
    for (std::size_t e = 0; e < shape.d_inner; ++e) {
        for (std::size_t n = 0; n < shape.d_state; ++n) {
            copy(e * shape.d_state + n, block.scan[scan_index(shape, e, n)]);
        }
    }
}

// The same of a window.
template <typename Block, typename Function>
void for_each_input(const Shape& shape, Block& block, const Function& copy) {
    const std::size_t channels = shape.convolution_channels();
    for (std::size_t tap = 0; tap < shape.window_rows(); ++tap) {
        for (std::size_t i = 0; i < channels; ++i) {
            copy(tap * channels + i, block.window.row(tap)[i]);
        }
    }
}

void check(const char* name, const std::vector<std::int32_t>& values, std::size_t size, int bits) {
    if (values.size() != size) {
        throw Error(std::string("the ") + name + " has " + std::to_string(values.size()) +
                    " values, the program's has " + std::to_string(size) +
                    "; restore what this program saved");
    }
    const std::int32_t limit = 1 << (bits - 1);
    for (const std::int32_t value : values) {
        if (value < -limit || value >= limit) {
            throw Error(std::string("the ") + name + " holds " + std::to_string(value) +
                        ", beyond its " + std::to_string(bits) +
                        " bits; restore what this program saved");
        }
    }
}

}  // namespace

State::State(const Program& program) : program_(program), blocks_(program.shape().n_layer) {
    const Shape& shape = program.shape();
    for (BlockState& block : blocks_) {
        block.window = Window(shape.window_rows(), shape.convolution_channels());
        block.scan.assign(scan_size(shape), 0.0F);
    }
}

State::State(const State& other) = default;
State& State::operator=(const State& other) = default;
State::~State() = default;

void State::reset() {
    for (BlockState& block : blocks_) {
        block.window.clear();
        std::fill(block.scan.begin(), block.scan.end(), 0.0F);
    }
}

std::vector<std::int32_t> State::window() const {
    const Shape& shape = program_.shape();
    const std::size_t size = shape.window_rows() * shape.convolution_channels();
    std::vector<std::int32_t> values(blocks_.size() * size);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        for_each_input(shape, blocks_[i], [&](std::size_t at, std::int32_t value) {
            values[i * size + at] = value;
        });
    }
    return values;
}

std::vector<std::int32_t> State::scan() const {
    const Shape& shape = program_.shape();
    const std::size_t size = shape.d_inner * shape.d_state;
    std::vector<std::int32_t> values(blocks_.size() * size);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        for_each_state(shape, blocks_[i], [&](std::size_t at, float value) {
            values[i * size + at] = static_cast<std::int32_t>(value);
        });
    }
    return values;
}

void State::restore(const std::vector<std::int32_t>& window,
                    const std::vector<std::int32_t>& scan) {
    const Shape& shape = program_.shape();
    const Scheme& scheme = program_.network().scheme;
    const std::size_t inputs = shape.window_rows() * shape.convolution_channels();
    const std::size_t states = shape.d_inner * shape.d_state;
    check("window", window, blocks_.size() * inputs, scheme.activation_bits);
    check("state", scan, blocks_.size() * states, scheme.kept_bits(shape.average));
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        for_each_input(shape, blocks_[i], [&](std::size_t at, std::int32_t& value) {
            value = window[i * inputs + at];
        });
        for_each_state(shape, blocks_[i], [&](std::size_t at, float& value) {
            value = static_cast<float>(scan[i * states + at]);
        });
    }
}

}  // namespace scanwright
