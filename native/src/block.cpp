#include "block.hpp"

#include <algorithm>
#include <cmath>

namespace scanwright {

namespace {

// Larger than any sum that a requantizer behind an activation meets, and than float32 holds.
constexpr double activated = 1 << 30;

Limits activation_input() { return Limits::of_signed(activation_input_bits); }

}  // namespace

void Probes::operator()(const char* name, int layer, const Rows32& values, std::size_t count,
                        std::size_t width) const {
    if (!probe_) return;
    std::vector<std::int32_t> compact(count * width);
    for (std::size_t i = 0; i < count; ++i) {
        std::copy_n(values.row(i), width, compact.data() + i * width);
    }
    probe_(name, layer, compact.data(), count, width);
}

// What a block computes on its way; one for each thread, as blocks run one after another.
struct MambaBlock::Workspace {
    Rows32 norm, x, mixed, activated, u, scan_u, words, z, gate, projected, dt, delta, decay, y,
        gated, normed, rotated;

    static Workspace& of_thread() {
        thread_local Workspace workspace;
        return workspace;
    }
};

MambaBlock::MambaBlock(const Network& network, std::size_t index,
                       std::shared_ptr<const DecayTable> decay)
    : index_(static_cast<int>(index)),
      channels_(network.shape.d_inner),
      decay_(std::move(decay)),
      argument_shift_(network.layers[index].argument_shift) {
    const MambaLayer& layer = network.layers[index];
    const Scheme& scheme = network.scheme;
    const int inputs = scheme.projection_input_bits();
    const Limits activation = Limits::of_signed(scheme.activation_bits);
    const auto all = [this](int shift) {
        return Integers(channels_, shift);
    };
    norm_ = Normalization(network, layer.norm, inputs);
    x_ = Linear(layer.in_proj, inputs, layer.x_shift, activation);
    z_ = Linear(layer.in_proj, inputs, layer.z_shift, activation_input(),
                network.shape.gate_row());
    convolution_ = Convolution(layer.convolution, layer.convolution_shift);
    silu_ = Activation(Activation::Kind::silu, network.tables.silu);
    softplus_ = Activation(Activation::Kind::softplus, network.tables.softplus);
    u_ = Requantizer(layer.u_shift, Limits::of_signed(network.u_bits()), activated);
    if (scheme.dual_scale) {
        dual_scale_ = DualScaleStorage(*scheme.dual_scale, layer.scan_u_shift);
    } else if (network.u_bits() != scheme.activation_bits) {
        scan_u_ = Requantizer(layer.scan_u_shift, activation, activated);
    }
    gate_ = Requantizer(all(layer.gate_shift), Limits::of_signed(scheme.gate_bits), activated);
    if (layer.heads) {
        prepare_heads(network, layer);
    } else {
        projected_ = Linear(layer.x_proj, inputs, layer.projected_shift, activation);
        dt_ = Linear(layer.dt_proj, scheme.activation_bits, layer.dt_shift, activation_input());
        delta_ =
            Requantizer(all(layer.delta_shift), Limits::of_unsigned(scheme.delta_bits), activated);
    }
    scan_ = Scan(network, layer, decay_);
    const int gated = layer.heads ? scheme.residual_bits : scheme.gated_bits();
    gated_ = Gate(layer.gated_shift, Limits::of_signed(gated));
    if (!layer.rotated_shift.empty()) {
        rotation_ = Rotation(layer.rotated_shift, Limits::of_signed(inputs));
    }
    out_ = Linear(layer.out_proj, inputs, layer.out_shift, Limits::of_signed(scheme.residual_bits));
}

void MambaBlock::prepare_heads(const Network& network, const MambaLayer& layer) {
    const HeadSelection& selection = *layer.heads;
    const Shape& shape = network.shape;
    HeadOperations own;
    own.dt = Linear(layer.in_proj, network.scheme.projection_input_bits(), layer.dt_shift,
                    activation_input(), shape.convolution_channels());
    own.dt_bias = selection.dt_bias;
    own.delta = Requantizer(Integers(shape.step_sizes(), layer.delta_shift),
                            {static_cast<double>(selection.delta_low),
                             static_cast<double>(selection.delta_high)},
                            activated);
    own.norm = Normalization(network, selection.norm_weight, selection.norm_shift,
                             selection.product, shape.groups, network.scheme.gated_bits());
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

void MambaBlock::run(const Kernels& kernels, Rows32& residual, std::size_t tokens,
                     BlockState& state, const Probes& probes) const {
    Workspace& own = Workspace::of_thread();
    norm_.run(kernels, residual, tokens, own.norm);
    probes("norm", index_, own.norm, tokens);
    mix(kernels, own, tokens, state, probes);
    Rows32* outputs = &own.gated;
    if (heads_) {
        heads_->norm.run(kernels, own.gated, tokens, own.normed);
        probes("normed", index_, own.normed, tokens);
        outputs = &own.normed;
    }
    if (rotation_) {
        rotation_->run(kernels, *outputs, tokens, own.rotated);
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
    probes("scan_u", index_, dual_scale_ ? own.words : *scan_u, tokens, channels_);

    z_.run(kernels, own.norm, tokens, own.z);
    silu_.run(kernels, own.z, tokens, own.activated);
    gate_.run(kernels, own.activated, tokens, own.gate);
    probes("gate", index_, own.gate, tokens);

    if (heads_) {
        select_heads(kernels, own, tokens, probes);
    } else {
        select(kernels, own, tokens, probes);
    }
    const Rows32& selection = heads_ ? own.u : own.projected;
    scan_.run(kernels, {own.delta, *scan_u, selection}, tokens, state.scan.data(), own.y);
    probes("scan_output", index_, own.y, tokens);
    gated_.run(kernels, own.y, own.gate, tokens, own.gated);
    probes("gated", index_, own.gated, tokens);
}

void MambaBlock::select(const Kernels& kernels, Workspace& own, std::size_t tokens,
                        const Probes& probes) const {
    projected_.run(kernels, own.u, tokens, own.projected);
    probes("projected", index_, own.projected, tokens);
    dt_.run(kernels, own.projected, tokens, own.dt);
    softplus_.run(kernels, own.dt, tokens, own.activated);
    delta_.run(kernels, own.activated, tokens, own.delta);
    probes("delta", index_, own.delta, tokens);
}

void MambaBlock::select_heads(const Kernels& kernels, Workspace& own, std::size_t tokens,
                              const Probes& probes) const {
    heads_->dt.run(kernels, own.norm, tokens, own.dt);
    probes("dt", index_, own.dt, tokens);
    heads_->add_bias(own.dt, tokens);
    softplus_.run(kernels, own.dt, tokens, own.activated);
    heads_->delta.run(kernels, own.activated, tokens, own.delta);
    probes("delta", index_, own.delta, tokens);
    if (probes) {
        decays(own.delta, tokens, own.decay);
        probes("decay", index_, own.decay, tokens);
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
