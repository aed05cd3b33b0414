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

// Rows whose channels are spread over blocks of their groups.
struct Spread {
    Rows32 delta, u, y;

    static Spread& of_thread() {
        thread_local Spread values;
        return values;
    }
};

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
    for (auto* vector : {&update_scale_, &skip_}) vector->assign(channels, 0.0);
    for (std::size_t e = 0; e < shape_.d_inner; ++e) {
        const std::size_t at = scan_channel(shape_, e);
        const std::size_t row = shape_.has_heads() ? e / shape_.head_size : e;
        for (std::size_t n = 0; n < rates; ++n) {
            rate_[(at / lanes * rates + n) * lanes + at % lanes] =
                static_cast<float>(layer.decay_rate[row * rates + n]) * rate_scale;
        }
        update_scale_[at] = std::ldexp(1.0, -layer.update_shift[e]);
        skip_[at] = layer.skip[e];
    }
    constants_.blocks = blocks_;
    constants_.states = shape_.d_state;
    constants_.shared_rate = shape_.has_heads();
    constants_.decay_scale = std::ldexp(1.0, -scheme.decay_bits);
    constants_.update = Limits::of_signed(scheme.update_bits());
    constants_.state = Limits::of_signed(scheme.state_bits);
    // The largest product of C and a state has this many bits.
    const int product_bits = scheme.activation_bits + scheme.state_bits - 2;
    constants_.exact_states = product_bits > 22 ? 0 : std::size_t{1} << (24 - product_bits);
    constants_.narrow = is_narrow(network, layer);
    prepare_single();
    prepare_outputs(network, layer);
}

// Whether every step of the float32 kernel is exact:
// * 2**-12 is the step of a float in [2048, 4096), so an argument is rounded once;
// * delta u is exact, and its products with B are checked token by token;
// * decay h + update is exact below 2**24 steps, and beyond that saturates either way;
// * the read-out's sum over a few states is exact in any order.
bool Scan::is_narrow(const Network& network, const Layer& layer) const {
    const Scheme& scheme = network.scheme;
    const double largest_delta = Limits::of_unsigned(scheme.delta_bits).high;
    const double largest_u = -Limits::of_signed(scheme.scan_input_bits()).low;
    return decay_->narrow && shape_.d_state <= narrow_states &&
           scheme.state_bits + scheme.decay_bits <= 24 &&
           largest_delta * largest_u <= single_exact &&
           largest_magnitude(layer.skip) * largest_u <= single_exact &&
           constants_.exact_states >= 4;
}

void Scan::prepare_outputs(const Network& network, const Layer& layer) {
    const Scheme& scheme = network.scheme;
    Integers shifts(skip_.size(), 0);
    for (std::size_t e = 0; e < shape_.d_inner; ++e) {
        shifts[scan_channel(shape_, e)] = layer.scan_output_shift[e];
    }
    const double largest = std::ldexp(static_cast<double>(shape_.d_state),
                                      scheme.activation_bits + scheme.state_bits - 2) +
                           std::ldexp(static_cast<double>(largest_magnitude(layer.skip)),
                                      scheme.scan_input_bits() - 1);
    outputs_ = Requantizer(shifts, Limits::of_signed(scheme.scan_output_bits), largest);
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
    whole_updates_.assign(update_scale_.size() / lanes, 1);
    for (std::size_t e = 0; e < update_scale_.size(); ++e) {
        if (update_scale_[e] != 0 && update_scale_[e] < 1) whole_updates_[e / lanes] = 0;
    }
}

ScanConstants Scan::constants_of(std::size_t group, const Rounding* rounding) const {
    const std::size_t first = group * blocks_ * lanes;
    ScanConstants constants = constants_;
    constants.rate = rate_.data() + first * (constants.shared_rate ? 1 : constants.states);
    constants.update_scale = update_scale_.data() + first;
    constants.skip = skip_.data() + first;
    constants.rounding = rounding;
    constants.decay = decay_->all.data();
    constants.decay_line = decay_->lines.data();
    constants.drive_scale = drive_scale_.data() + first;
    constants.narrow_skip = narrow_skip_.data() + first;
    constants.whole_updates = whole_updates_.data() + first / lanes;
    return constants;
}

// Whether groups begin elsewhere than in a row of channels.
bool Scan::is_spread() const {
    return shape_.groups > 1 && shape_.d_inner / shape_.groups % lanes != 0;
}

// Puts every channel where its group's block has it; `share` channels have one value together.
void Scan::spread(const Rows32& values, std::size_t share, std::size_t tokens, Rows32& out) const {
    out.shape(tokens, shape_.groups * blocks_ * lanes);
    for (std::size_t t = 0; t < tokens; ++t) {
        std::fill_n(out.row(t), out.stride(), 0);
        for (std::size_t i = 0; i < shape_.d_inner / share; ++i) {
            std::fill_n(out.row(t) + scan_channel(shape_, i * share), share, values.row(t)[i]);
        }
    }
}

void Scan::run(const Kernels& kernels, const Inputs& inputs, std::size_t tokens, float* state,
               Rows32& y) const {
    Spread* const own = shape_.has_heads() || is_spread() ? &Spread::of_thread() : nullptr;
    const std::size_t e = shape_.d_inner, states = shape_.d_state;
    y.shape(tokens, e);
    if (shape_.has_heads()) spread(inputs.delta, shape_.head_size, tokens, own->delta);
    if (is_spread()) spread(inputs.u, 1, tokens, own->u);
    if (is_spread()) own->y.shape(tokens, shape_.groups * blocks_ * lanes);
    const Rows32& delta = shape_.has_heads() ? own->delta : inputs.delta;
    const Rows32& u = is_spread() ? own->u : inputs.u;
    Rows32& sums = is_spread() ? own->y : y;
    const std::int32_t* selected =
        inputs.selection.row(0) + (shape_.has_heads() ? e : shape_.dt_rank);
    for (std::size_t group = 0; group < shape_.groups; ++group) {
        const std::size_t first = group * blocks_ * lanes;
        const Rounding rounding = outputs_.rounding(first);
        const std::int32_t* b = selected + group * states;
        kernels.scan(constants_of(group, outputs_.is_single() ? &rounding : nullptr),
                     {delta.row(0) + first, u.row(0) + first, sums.row(0) + first, delta.stride(),
                      u.stride(), sums.stride(), b, b + shape_.groups * states,
                      inputs.selection.stride(), tokens},
                     state + first * states);
    }
    if (!outputs_.is_single()) outputs_.run(kernels, sums, tokens, sums);
    for (std::size_t t = 0; is_spread() && t < tokens; ++t) {
        for (std::size_t i = 0; i < e; ++i) y.row(t)[i] = own->y.row(t)[scan_channel(shape_, i)];
    }
}

}  // namespace scanwright
