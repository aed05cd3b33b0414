#include "block.hpp"

#include <algorithm>

namespace scanwright {

void Probes::operator()(const char* name, int layer, const Rows32& values, std::size_t count,
                        std::size_t width) const {
    if (!probe_) return;
    std::vector<std::int32_t> compact(count * width);
    for (std::size_t i = 0; i < count; ++i) {
        std::copy_n(values.row(i), width, compact.data() + i * width);
    }
    probe_(name, layer, compact.data(), count, width);
}

MixerBlock::MixerBlock(const Network& network, std::size_t index)
    : index_(static_cast<int>(index)),
      channels_(network.shape.d_inner),
      convolved_(network.shape.is_convolved()) {
    const Layer& layer = network.layers[index];
    const Shape& shape = network.shape;
    const Scheme& scheme = network.scheme;
    const int inputs = layer.inputs;
    const Limits activation_input = Limits::of_signed(activation_input_bits);
    const Limits activation = Limits::of_signed(scheme.activation_bits);
    norm_ = Normalization(network, layer.norm, inputs);
    x_ = Linear(layer.in_proj, inputs, layer.x_shift, convolved_ ? activation : activation_input);
    silu_ = Activation(Activation::Kind::silu, network.tables.silu);
    const int u_bits = shape.has_heads() ? network.u_bits() : inputs + (scheme.asymmetric ? 1 : 0);
    u_ = Requantizer(layer.u_shift, Limits::of_signed(u_bits), activated_bound);
    if (scheme.asymmetric) u_codes_ = CodeRange(layer.u_zero, inputs);
    if (scheme.dual_scale) {
        dual_scale_ = DualScaleStorage(*scheme.dual_scale, layer.scan_u_shift);
    } else if (network.separate_scan_input()) {
        scan_u_ = Requantizer(layer.scan_u_shift, activation, activated_bound);
    }
    const Limits gated =
        Limits::of_signed(shape.has_heads() ? scheme.residual_bits : network.mixed_bits(layer));
    if (shape.gated) {
        z_ = Linear(layer.in_proj, inputs, layer.z_shift, activation_input, shape.gate_row());
        gate_ = Requantizer(Integers(channels_, layer.gate_shift),
                            Limits::of_signed(scheme.gate_bits), activated_bound);
        gated_ = Gate(layer.gated_shift, gated,
                      (shape.average ? scheme.average_bits() : scheme.scan_output_bits) +
                          scheme.gate_bits);
    } else {
        ungated_ = Requantizer(layer.gated_shift, gated, activated_bound);
    }
    if (!layer.rotated_shift.empty()) {
        rotation_ = Rotation(layer.rotated_shift, Limits::of_signed(inputs),
                             scheme.rotation_bits.value_or(inputs));
    }
    out_ = Linear(layer.out_proj, inputs, layer.out_shift, Limits::of_signed(scheme.residual_bits));
}

void MixerBlock::run(const Kernels& kernels, Rows32& residual, std::size_t tokens,
                     BlockState& state, const Probes& probes) const {
    thread_local MixerValues own;
    norm_.run(kernels, residual, tokens, own.norm);
    probes("norm", index_, own.norm, tokens);
    x_.run(kernels, own.norm, tokens, own.x);
    probes("x", index_, own.x, tokens);
    const Rows32& mixed = convolve(kernels, own, tokens, state);
    if (convolved_) probes("convolution", index_, mixed, tokens);
    const Rows32& scan_u = store(kernels, own, mixed, tokens, probes);
    if (z_) {
        z_->run(kernels, own.norm, tokens, own.z);
        silu_.run(kernels, own.z, tokens, gate_, own.gate);
        probes("gate", index_, own.gate, tokens);
    }
    mix(kernels, own, scan_u, tokens, state, probes);
    if (z_) {
        gated_.run(kernels, own.y, own.gate, tokens, own.gated);
    } else {
        ungated_.run(kernels, own.y, tokens, own.gated);
    }
    probes("gated", index_, own.gated, tokens);
    const Rows32* outputs = &leave(kernels, own, tokens, probes);
    if (rotation_) {
        rotation_->run(kernels, *outputs, tokens, own.rotated);
        probes("rotated", index_, own.rotated, tokens);
        outputs = &own.rotated;
    }
    out_.add(kernels, *outputs, tokens, residual);
    probes("residual", index_, residual, tokens);
}

// Stores SiLU's results for x_proj and for the scan; returns what the scan reads.
const Rows32& MixerBlock::store(const Kernels& kernels, MixerValues& own, const Rows32& mixed,
                                std::size_t tokens, const Probes& probes) const {
    if (dual_scale_ || scan_u_) {
        silu_.run(kernels, mixed, tokens, own.activated);
        u_.run(kernels, own.activated, tokens, own.u);
    } else {
        silu_.run(kernels, mixed, tokens, u_, own.u);
    }
    if (u_codes_) u_codes_->run(tokens, own.u);
    probes("u", index_, own.u, tokens);
    if (dual_scale_) {
        dual_scale_->run(kernels, own.activated, tokens, own.scan_u);
        if (probes) {
            dual_scale_->words(own.activated, tokens, own.words);
            probes("scan_u", index_, own.words, tokens);
        }
        return own.scan_u;
    }
    if (scan_u_) scan_u_->run(kernels, own.activated, tokens, own.scan_u);
    const Rows32& scan_u = scan_u_ ? own.scan_u : own.u;
    probes("scan_u", index_, scan_u, tokens, channels_);
    return scan_u;
}

Rows32& MixerBlock::leave(const Kernels&, MixerValues& own, std::size_t, const Probes&) const {
    return own.gated;
}

}  // namespace scanwright
