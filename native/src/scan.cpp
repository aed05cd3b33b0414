// The constants of the selective scan, and when its steps are exact in float32.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "operations.hpp"

namespace scanwright {

namespace {

constexpr std::int32_t arguments = 1 << exponent_bits;
constexpr int mantissa_fraction = 24;
constexpr int segment_bits = exponent_fraction - 5;
constexpr int narrow_decay_bits = 12;
constexpr std::size_t narrow_states = 256;
constexpr double single_exact = 1 << 24;

// 2**-argument with `decay_bits` fraction bits of every argument, golden/operations/exponent.py.
Integers decay_table(const LinearTable& table, int decay_bits) {
    Integers decays(arguments);
    for (std::int32_t argument = 0; argument < arguments; ++argument) {
        const std::int32_t fraction = argument & ((1 << exponent_fraction) - 1);
        const auto segment = static_cast<std::size_t>(fraction >> segment_bits);
        const double mantissa = std::ldexp(table.base[segment], mantissa_fraction - 16) -
                                static_cast<double>(table.slope[segment]) *
                                    (fraction & ((1 << segment_bits) - 1));
        const int shift = (argument >> exponent_fraction) + mantissa_fraction - decay_bits;
        decays[static_cast<std::size_t>(argument)] =
            static_cast<std::int32_t>(std::nearbyint(std::ldexp(mantissa, -shift)));
    }
    return decays;
}

std::int32_t largest_magnitude(const Integers& values) {
    std::int32_t largest = 0;
    for (const std::int32_t value : values) largest = std::max(largest, std::abs(value));
    return largest;
}

}  // namespace

DecayTable::DecayTable(const LinearTable& table, int decay_bits)
    : all(decay_table(table, decay_bits)), base(exponent_segments), slope(exponent_segments) {
    narrow = decay_bits == narrow_decay_bits;
    const auto set = [this](float& target, double value) {
        target = static_cast<float>(value);
        narrow = narrow && static_cast<double>(target) == value;
    };
    for (std::size_t i = 0; i < exponent_segments; ++i) {
        const double fall = std::ldexp(table.slope[i], exponent_fraction - mantissa_fraction);
        const double left = static_cast<double>(i) / exponent_segments;
        set(base[i], std::ldexp(table.base[i], -16) + fall * left);
        set(slope[i], fall - 0.5);
    }
    for (std::int32_t i = 0; i < arguments && narrow; ++i) {
        narrow = narrow_decay(i) == all[static_cast<std::size_t>(i)];
    }
}

double DecayTable::narrow_decay(std::int32_t argument) const {
    const double fraction =
        std::ldexp(argument & ((1 << exponent_fraction) - 1), -exponent_fraction);
    const auto segment = static_cast<std::size_t>(argument >> segment_bits) % exponent_segments;
    const auto mantissa = static_cast<float>(base[segment] - slope[segment] * fraction);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &mantissa, sizeof bits);
    bits -= static_cast<std::uint32_t>(argument) << 11;
    float scaled = 0;
    std::memcpy(&scaled, &bits, sizeof scaled);
    return std::nearbyint(std::ldexp(static_cast<double>(scaled), narrow_decay_bits));
}

std::size_t scan_channel(const Shape& shape, std::size_t channel) {
    const std::size_t width = shape.d_inner / shape.groups;
    return channel / width * padded(width) + channel % width;
}

std::size_t scan_index(const Shape& shape, std::size_t channel, std::size_t n) {
    const std::size_t at = scan_channel(shape, channel);
    return (at / lanes * shape.d_state + n) * lanes + at % lanes;
}

std::size_t scan_size(const Shape& shape) {
    return shape.groups * padded(shape.d_inner / shape.groups) * shape.d_state;
}

Scan::Scan(const Network& network, const Layer& layer,
           std::shared_ptr<const DecayTable> decay)
    : shape_(network.shape),
      blocks_(padded(shape_.d_inner / shape_.groups) / lanes),
      decay_(std::move(decay)) {
    const Scheme& scheme = network.scheme;
    const std::size_t channels = shape_.groups * blocks_ * lanes;
    const std::size_t rates = shape_.has_heads() ? 1 : shape_.d_state;
    const float rate_scale = std::ldexp(1.0F, -(layer.argument_shift + exponent_fraction));
    rate_.assign(channels * rates, 0.0F);
    for (auto* vector : {&update_scale_, &skip_, &output_scale_}) vector->assign(channels, 0.0);
    for (std::size_t e = 0; e < shape_.d_inner; ++e) {
        const std::size_t at = scan_channel(shape_, e);
        const std::size_t row = shape_.has_heads() ? e / shape_.head_size : e;
        for (std::size_t n = 0; n < rates; ++n) {
            rate_[(at / lanes * rates + n) * lanes + at % lanes] =
                static_cast<float>(layer.decay_rate[row * rates + n]) * rate_scale;
        }
        update_scale_[at] = std::ldexp(1.0, -layer.update_shift[e]);
        skip_[at] = layer.skip[e];
        output_scale_[at] = std::ldexp(1.0, -layer.scan_output_shift[e]);
    }
    constants_.blocks = blocks_;
    constants_.states = shape_.d_state;
    constants_.shared_rate = shape_.has_heads();
    constants_.decay_scale = std::ldexp(1.0, -scheme.decay_bits);
    constants_.update = Limits::of_signed(scheme.update_bits());
    constants_.state = Limits::of_signed(scheme.state_bits);
    constants_.output = Limits::of_signed(scheme.scan_output_bits);
    constants_.narrow = prepare_narrow(network, layer);
}

// Whether every step of the float32 kernel is exact:
// * 2**-12 is the step of a float in [2048, 4096), so an argument is rounded once;
// * delta u is exact, and its products with B are checked token by token;
// * decay h + update is exact below 2**24 steps, and beyond that saturates either way;
// * the read-out's sum is exact in any order.
bool Scan::prepare_narrow(const Network& network, const Layer& layer) {
    const Scheme& scheme = network.scheme;
    const double largest_delta = Limits::of_unsigned(scheme.delta_bits).high;
    const double largest_u = -Limits::of_signed(scheme.scan_input_bits()).low;
    const double read_out = std::ldexp(static_cast<double>(shape_.d_state),
                                       scheme.activation_bits + scheme.state_bits - 2) +
                            largest_magnitude(layer.skip) * largest_u;
    drive_scale_.resize(update_scale_.size());
    std::transform(update_scale_.begin(), update_scale_.end(), drive_scale_.begin(),
                   [](double scale) {
                       return static_cast<float>(std::ldexp(scale, -narrow_decay_bits));
                   });
    return decay_->narrow && shape_.d_state <= narrow_states &&
           scheme.state_bits + scheme.decay_bits <= 24 &&
           largest_delta * largest_u <= single_exact && read_out < single_exact;
}

ScanConstants Scan::constants_of(std::size_t group) const {
    const std::size_t first = group * blocks_ * lanes;
    ScanConstants constants = constants_;
    constants.rate = rate_.data() + first * (constants.shared_rate ? 1 : constants.states);
    constants.update_scale = update_scale_.data() + first;
    constants.skip = skip_.data() + first;
    constants.output_scale = output_scale_.data() + first;
    constants.decay = decay_->all.data();
    constants.drive_scale = drive_scale_.data() + first;
    constants.mantissa_base = decay_->base.data();
    constants.mantissa_slope = decay_->slope.data();
    return constants;
}

// Gives every channel its own value of `values`, of which `share` channels have one together.
void Scan::spread(const Rows32& values, std::size_t share, std::size_t tokens, Rows32& out) const {
    out.shape(tokens, shape_.groups * blocks_ * lanes);
    for (std::size_t t = 0; t < tokens; ++t) {
        std::fill_n(out.row(t), out.stride(), 0);
        for (std::size_t e = 0; e < shape_.d_inner; ++e) {
            out.row(t)[scan_channel(shape_, e)] = values.row(t)[e / share];
        }
    }
}

void Scan::run(const Kernels& kernels, const Inputs& inputs, std::size_t tokens, float* state,
               Rows32& y) const {
    const std::size_t e = shape_.d_inner, states = shape_.d_state;
    y.shape(tokens, e);
    if (!shape_.has_heads()) {
        const std::int32_t* b = inputs.selection.row(0) + shape_.dt_rank;
        kernels.scan(constants_of(0),
                     {inputs.delta.row(0), inputs.u.row(0), inputs.delta.stride(), b, b + states,
                      inputs.selection.stride(), y.row(0), tokens},
                     state);
        return;
    }
    thread_local Rows32 delta, u, spread_y;
    spread(inputs.delta, shape_.head_size, tokens, delta);
    spread(inputs.u, 1, tokens, u);
    spread_y.shape(tokens, delta.width());
    for (std::size_t group = 0; group < shape_.groups; ++group) {
        const std::size_t first = group * blocks_ * lanes;
        const std::int32_t* b = inputs.selection.row(0) + e + group * states;
        kernels.scan(constants_of(group),
                     {delta.row(0) + first, u.row(0) + first, delta.stride(), b,
                      b + shape_.groups * states, inputs.selection.stride(),
                      spread_y.row(0) + first, tokens},
                     state + first * states);
    }
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t i = 0; i < e; ++i) y.row(t)[i] = spread_y.row(t)[scan_channel(shape_, i)];
    }
}

}  // namespace scanwright
