#include "block.hpp"

#include <algorithm>

namespace scanwright {

namespace {

// Larger than any sum that a requantizer behind an activation meets, and than float32 holds.
constexpr double activated = 1 << 30;

Limits activation_input() { return Limits::of_signed(activation_input_bits); }

}  // namespace

void Probes::operator()(const char* name, int layer, const Rows32& values,
                        std::size_t count) const {
    if (!probe_) return;
    std::vector<std::int32_t> compact(count * values.width());
    for (std::size_t i = 0; i < count; ++i) {
        std::copy_n(values.row(i), values.width(), compact.data() + i * values.width());
    }
    probe_(name, layer, compact.data(), count, values.width());
}

// What a block computes on its way; one for each thread, as blocks run one after another.
struct MambaBlock::Workspace {
    Rows32 norm, x, mixed, activated, u, scan_u, words, z, gate, projected, dt, delta, y, gated,
        rotated;

    static Workspace& of_thread() {
        thread_local Workspace workspace;
        return workspace;
    }
};

MambaBlock::MambaBlock(const Network& network, std::size_t index,
                       std::shared_ptr<const DecayTable> decay)
    : index_(static_cast<int>(index)),
      past_(network.shape.d_conv - 1),
      channels_(network.shape.d_inner) {
    const MambaLayer& layer = network.layers[index];
    const Scheme& scheme = network.scheme;
    const int inputs = scheme.projection_input_bits();
    const Limits activation = Limits::of_signed(scheme.activation_bits);
    const Limits input = Limits::of_signed(inputs);
    const auto all = [this](int shift) {
        return Integers(channels_, shift);
    };
    norm_ = Normalization(network, layer.norm, inputs);
    x_ = Linear(layer.in_proj, inputs, layer.x_shift, activation);
    z_ = Linear(layer.in_proj, inputs, layer.z_shift, activation_input(), channels_);
    convolution_ = Convolution(layer.convolution, layer.convolution_shift);
    silu_ = Activation(Activation::Kind::silu, network.tables.silu);
    softplus_ = Activation(Activation::Kind::softplus, network.tables.softplus);
    u_ = Requantizer(layer.u_shift, input, activated);
    if (scheme.dual_scale) {
        dual_scale_ = DualScaleStorage(*scheme.dual_scale, layer.scan_u_shift);
    } else if (inputs != scheme.activation_bits) {
        scan_u_ = Requantizer(layer.scan_u_shift, activation, activated);
    }
    gate_ = Requantizer(all(layer.gate_shift), Limits::of_signed(scheme.gate_bits), activated);
    projected_ = Linear(layer.x_proj, inputs, layer.projected_shift, activation);
    dt_ = Linear(layer.dt_proj, scheme.activation_bits, layer.dt_shift, activation_input());
    delta_ =
        Requantizer(all(layer.delta_shift), Limits::of_unsigned(scheme.delta_bits), activated);
    scan_ = Scan(network, layer, std::move(decay));
    gated_ = Gate(layer.gated_shift, Limits::of_signed(scheme.gated_bits()));
    if (!layer.rotated_shift.empty()) rotation_ = Rotation(layer.rotated_shift, input);
    out_ = Linear(layer.out_proj, inputs, layer.out_shift, Limits::of_signed(scheme.residual_bits));
}

void MambaBlock::run(const Kernels& kernels, Rows32& residual, std::size_t tokens,
                     BlockState& state, const Probes& probes) const {
    Workspace& own = Workspace::of_thread();
    norm_.run(kernels, residual, tokens, own.norm);
    probes("norm", index_, own.norm, tokens);
    mix(kernels, own, tokens, state, probes);
    const Rows32* outputs = &own.gated;
    if (rotation_) {
        rotation_->run(kernels, own.gated, tokens, own.rotated);
        probes("rotated", index_, own.rotated, tokens);
        outputs = &own.rotated;
    }
    out_.add(kernels, *outputs, tokens, residual);
    probes("residual", index_, residual, tokens);
}

void MambaBlock::mix(const Kernels& kernels, Workspace& own, std::size_t tokens, BlockState& state,
                     const Probes& probes) const {
    x_.run(kernels, own.norm, tokens, own.x);
    probes("x", index_, own.x, tokens);
    convolution_.run(kernels, own.x, tokens, state.window, own.mixed);
    probes("convolution", index_, own.mixed, tokens);

    silu_.run(kernels, own.mixed, tokens, own.activated);
    u_.run(kernels, own.activated, tokens, own.u);
    probes("u", index_, own.u, tokens);
    const Rows32* scan_u = &own.u;
    if (dual_scale_) {
        dual_scale_->run(kernels, own.activated, tokens, own.scan_u);
        scan_u = &own.scan_u;
        if (probes) dual_scale_->words(own.activated, tokens, own.words);
    } else if (scan_u_) {
        scan_u_->run(kernels, own.activated, tokens, own.scan_u);
        scan_u = &own.scan_u;
    }
    probes("scan_u", index_, dual_scale_ ? own.words : *scan_u, tokens);

    z_.run(kernels, own.norm, tokens, own.z);
    silu_.run(kernels, own.z, tokens, own.activated);
    gate_.run(kernels, own.activated, tokens, own.gate);
    probes("gate", index_, own.gate, tokens);

    projected_.run(kernels, own.u, tokens, own.projected);
    probes("projected", index_, own.projected, tokens);
    dt_.run(kernels, own.projected, tokens, own.dt);
    softplus_.run(kernels, own.dt, tokens, own.activated);
    delta_.run(kernels, own.activated, tokens, own.delta);
    probes("delta", index_, own.delta, tokens);
    scan_.run(kernels, {own.delta, *scan_u, own.projected}, tokens, state.scan.data(), own.y);
    probes("scan_output", index_, own.y, tokens);
    gated_.run(kernels, own.y, own.gate, tokens, own.gated);
    probes("gated", index_, own.gated, tokens);
}

MlpBlock::MlpBlock(const Network& network, std::size_t index) : index_(static_cast<int>(index)) {
    const MlpLayer& mlp = network.mlps[index];
    const Scheme& scheme = network.scheme;
    const int inputs = scheme.projection_input_bits();
    norm_ = Normalization(network, mlp.norm, inputs);
    z_ = Linear(mlp.gate, inputs, mlp.z_shift, activation_input());
    up_ = Linear(mlp.up, inputs, mlp.up_shift, Limits::of_signed(scheme.scan_output_bits));
    silu_ = Activation(Activation::Kind::silu, network.tables.silu);
    gate_ = Requantizer(Integers(network.shape.mlp, mlp.gate_shift),
                        Limits::of_signed(scheme.gate_bits), activated);
    gated_ = Gate(mlp.gated_shift, Limits::of_signed(inputs));
    out_ = Linear(mlp.down, inputs, mlp.out_shift, Limits::of_signed(scheme.residual_bits));
}

void MlpBlock::run(const Kernels& kernels, Rows32& residual, std::size_t tokens, BlockState&,
                   const Probes& probes) const {
    thread_local Rows32 norm, z, gate, up, gated;
    norm_.run(kernels, residual, tokens, norm);
    probes("mlp_norm", index_, norm, tokens);
    z_.run(kernels, norm, tokens, z);
    silu_.run(kernels, z, tokens, gate);
    gate_.run(kernels, gate, tokens, gate);
    probes("mlp_gate", index_, gate, tokens);
    up_.run(kernels, norm, tokens, up);
    probes("up", index_, up, tokens);
    gated_.run(kernels, up, gate, tokens, gated);
    probes("mlp_gated", index_, gated, tokens);
    out_.add(kernels, gated, tokens, residual);
    probes("mlp_residual", index_, residual, tokens);
}

}  // namespace scanwright
