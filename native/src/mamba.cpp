// Mamba blocks: the selective scan, its selection by projections or by heads, the gated norm.
#include <algorithm>
#include <cmath>

#include "block.hpp"

namespace scanwright {

MambaBlock::MambaBlock(const Network& network, std::size_t index,
                       std::shared_ptr<const DecayTable> decay)
    : MixerBlock(network, index),
      convolution_(network.layers[index].convolution, network.scheme.activation_bits,
                   network.layers[index].convolution_shift),
      softplus_(Activation::Kind::softplus, network.tables.softplus),
      decay_(std::move(decay)),
      argument_shift_(network.layers[index].argument_shift),
      scan_(network, network.layers[index], decay_) {
    const Layer& layer = network.layers[index];
    const Scheme& scheme = network.scheme;
    if (layer.heads) {
        prepare_heads(network, layer);
        return;
    }
    projected_ = Linear(layer.x_proj, layer.inputs + (scheme.asymmetric ? 1 : 0),
                        layer.projected_shift, Limits::of_signed(scheme.activation_bits),
                        network.share);
    dt_ = Linear(layer.dt_proj, scheme.activation_bits, layer.dt_shift,
                 Limits::of_signed(activation_input_bits));
    delta_ = Requantizer(Integers(channels(), layer.delta_shift),
                         Limits::of_unsigned(scheme.delta_bits), activated_bound);
}

void MambaBlock::prepare_heads(const Network& network, const Layer& layer) {
    const HeadSelection& selection = *layer.heads;
    const Shape& shape = network.shape;
    HeadOperations own;
    own.dt = Linear(layer.in_proj, layer.inputs, layer.dt_shift,
                    Limits::of_signed(activation_input_bits), shape.convolution_channels());
    own.dt_bias = selection.dt_bias;
    own.delta = Requantizer(Integers(shape.step_sizes(), layer.delta_shift),
                            {static_cast<double>(selection.delta_low),
                             static_cast<double>(selection.delta_high)},
                            activated_bound);
    own.norm = Normalization(network, selection.norm_weight, selection.norm_shift,
                             selection.product, shape.groups, network.mixed_bits(layer));
    heads_ = std::move(own);
    rate_ = layer.decay_rate;
}

void HeadOperations::add_bias(Rows32& dt_rows, std::size_t tokens) const {
    constexpr std::int32_t limit = 1 << (activation_input_bits - 1);
    for (std::size_t t = 0; t < tokens; ++t) {
        std::int32_t* row = dt_rows.row(t);
        for (std::size_t h = 0; h < dt_bias.size(); ++h) {
            row[h] = std::clamp(row[h] + dt_bias[h], -limit, limit - 1);
        }
    }
}

Rows32& MambaBlock::convolve(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                             BlockState& state) const {
    convolution_.run(kernels, own.in.x, tokens, state.window, own.u);
    return own.u;
}

void MambaBlock::mix(const Kernels& kernels, MixerValues& own, const Rows32& scan_u,
                     std::size_t tokens, BlockState& state, const Probes& probes) const {
    if (heads_) {
        select_heads(kernels, own, tokens, probes);
    } else {
        select(kernels, own, tokens, probes);
    }
    const Rows32& selection = heads_ ? own.u : own.projected;
    scan_.run(kernels, {own.delta, scan_u, selection}, tokens, state.scan.data(),
              own.gated);
    probes("scan_output", index(), own.gated, tokens);
}

Rows32& MambaBlock::leave(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                          const Probes& probes) const {
    if (!heads_) return own.gated;
    heads_->norm.run(kernels, own.gated, tokens, own.normed);
    probes("normed", index(), own.normed, tokens);
    return own.normed;
}

void MambaBlock::select(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                        const Probes& probes) const {
    projected_.run(kernels, own.u, tokens, own.projected);
    probes("projected", index(), own.projected, tokens);
    dt_.run(kernels, own.projected, tokens, own.delta);
    softplus_.run(kernels, own.delta, tokens, delta_, own.delta);
    probes("delta", index(), own.delta, tokens);
}

void MambaBlock::select_heads(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                              const Probes& probes) const {
    heads_->dt.run(kernels, own.in.norm, tokens, own.delta);
    probes("dt", index(), own.delta, tokens);
    heads_->add_bias(own.delta, tokens);
    softplus_.run(kernels, own.delta, tokens, heads_->delta, own.delta);
    probes("delta", index(), own.delta, tokens);
    if (probes) {
        decays(own.delta, tokens, own.decay);
        probes("decay", index(), own.decay, tokens);
    }
}

// The decays of all heads, as a probe sees them; the scan computes its own.
void MambaBlock::decays(const Rows32& delta, std::size_t tokens, Rows32& out) const {
    out.shape(tokens, rate_.size());
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t h = 0; h < rate_.size(); ++h) {
            const double product = static_cast<double>(delta.row(t)[h]) * rate_[h];
            const double argument = std::nearbyint(std::ldexp(product, -argument_shift_));
            const auto entry = static_cast<std::size_t>(
                std::min(argument, static_cast<double>(decay_->all.size() - 1)));
            out.row(t)[h] = decay_->all[entry];
        }
    }
}

}  // namespace scanwright
