// Blocks with a moving average: s = lambda s + (1 - lambda) u, lambda a sigmoid.
#include <cmath>

#include "block.hpp"

namespace scanwright {

AverageBlock::AverageBlock(const Network& network, std::size_t index)
    : MixerBlock(network, index),
      sigmoid_(Activation::Kind::sigmoid, network.tables.sigmoid),
      lift_(std::ldexp(1.0, network.scheme.lift())),
      scale_(std::ldexp(1.0, -network.scheme.decay_bits)) {
    const Layer& layer = network.layers[index];
    const Scheme& scheme = network.scheme;
    if (is_convolved()) {
        convolution_ = Convolution(layer.convolution, scheme.activation_bits,
                                   layer.convolution_shift);
    }
    projected_ = Linear(layer.dt_proj, scheme.projection_input_bits(), layer.projected_shift,
                        Limits::of_signed(activation_input_bits));
    decay_ = Requantizer(
        Integers(channels(), activation_output_fraction - scheme.decay_bits),
        Limits::of_unsigned(scheme.decay_bits + 1), activated_bound);
}

Rows32& AverageBlock::convolve(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                               BlockState&) const {
    if (!is_convolved()) return own.in.x;
    convolution_.run_centred(kernels, own.in.x, tokens, own.u);
    return own.u;
}

void AverageBlock::mix(const Kernels& kernels, MixerValues& own, const Rows32& scan_u,
                       std::size_t tokens, BlockState& state, const Probes& probes) const {
    projected_.run(kernels, own.u, tokens, own.projected);
    probes("projected", index(), own.projected, tokens);
    sigmoid_.run(kernels, own.projected, tokens, decay_, own.decay);
    probes("decay", index(), own.decay, tokens);
    own.gated.shape(tokens, channels());
    for (std::size_t t = 0; t < tokens; ++t) {
        kernels.average(own.decay.row(t), scan_u.row(t), lift_, scale_, state.scan.data(),
                        own.gated.row(t), state.scan.size());
    }
    probes("state", index(), own.gated, tokens);
}

}  // namespace scanwright
