// The constants of the selective scan, and when its steps are exact in float32.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "operations.hpp"

namespace scanwright {

namespace {

constexpr int narrow_decay_bits = 12;
constexpr std::size_t narrow_states = 256;
constexpr double single_exact = 1 << 24;

std::int32_t largest_magnitude(const Integers& values) {
    std::int32_t largest = 0;
    for (const std::int32_t value : values) largest = std::max(largest, std::abs(value));
    return largest;
}

}  // namespace

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
    constants_.narrow = is_narrow(network, layer);
    prepare_single();
}

// Whether every step of the float32 kernel is exact:
// * 2**-12 is the step of a float in [2048, 4096), so an argument is rounded once;
// * delta u is exact, and its products with B are checked token by token;
// * decay h + update is exact below 2**24 steps, and beyond that saturates either way;
// * the read-out's sum is exact in any order.
bool Scan::is_narrow(const Network& network, const Layer& layer) const {
    const Scheme& scheme = network.scheme;
    const double largest_delta = Limits::of_unsigned(scheme.delta_bits).high;
    const double largest_u = -Limits::of_signed(scheme.scan_input_bits()).low;
    const double read_out = std::ldexp(static_cast<double>(shape_.d_state),
                                       scheme.activation_bits + scheme.state_bits - 2) +
                            largest_magnitude(layer.skip) * largest_u;
    return decay_->narrow && shape_.d_state <= narrow_states &&
           scheme.state_bits + scheme.decay_bits <= 24 &&
           largest_delta * largest_u <= single_exact && read_out < single_exact;
}

// The constants that the float32 kernel has in its own type.
void Scan::prepare_single() {
    const auto single = [](const Aligned<double>& values, int exponent) {
        Aligned<float> result(values.size());
        std::transform(values.begin(), values.end(), result.begin(), [&](double value) {
            return static_cast<float>(std::ldexp(value, exponent));
        });
        return result;
    };
    drive_scale_ = single(update_scale_, -narrow_decay_bits);
    narrow_skip_ = single(skip_, 0);
    narrow_output_scale_ = single(output_scale_, 0);
    whole_updates_.assign(update_scale_.size() / lanes, 1);
    for (std::size_t e = 0; e < update_scale_.size(); ++e) {
        if (update_scale_[e] != 0 && update_scale_[e] < 1) whole_updates_[e / lanes] = 0;
    }
}

ScanConstants Scan::constants_of(std::size_t group) const {
    const std::size_t first = group * blocks_ * lanes;
    ScanConstants constants = constants_;
    constants.rate = rate_.data() + first * (constants.shared_rate ? 1 : constants.states);
    constants.update_scale = update_scale_.data() + first;
    constants.skip = skip_.data() + first;
    constants.output_scale = output_scale_.data() + first;
    constants.decay = decay_->all.data();
    constants.decay_line = decay_->lines.data();
    constants.drive_scale = drive_scale_.data() + first;
    constants.narrow_skip = narrow_skip_.data() + first;
    constants.narrow_output_scale = narrow_output_scale_.data() + first;
    constants.whole_updates = whole_updates_.data() + first / lanes;
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
               Rows32& y, Ahead ahead) const {
    const std::size_t e = shape_.d_inner, states = shape_.d_state;
    y.shape(tokens, e);
    if (!shape_.has_heads()) {
        const std::int32_t* b = inputs.selection.row(0) + shape_.dt_rank;
        kernels.scan(constants_of(0),
                     {inputs.delta.row(0), inputs.u.row(0), inputs.delta.stride(), b, b + states,
                      inputs.selection.stride(), y.row(0), tokens},
                     state, ahead);
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
                     state + first * states, ahead);
    }
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t i = 0; i < e; ++i) y.row(t)[i] = spread_y.row(t)[scan_channel(shape_, i)];
    }
}

}  // namespace scanwright
