// The gated MLP behind a mixer.
#include "block.hpp"

namespace scanwright {

namespace {

struct MlpValues {
    Rows32 norm, gate, gated, totals;
};

}  // namespace

MlpBlock::MlpBlock(const Network& network, std::size_t index) : index_(static_cast<int>(index)) {
    const MlpLayer& mlp = network.mlps[index];
    const Scheme& scheme = network.scheme;
    const int inputs = network.layers[index].inputs;
    norm_ = Normalization(network, mlp.norm, inputs);
    z_ = Linear(mlp.gate, inputs, mlp.z_shift, Limits::of_signed(activation_input_bits));
    up_ = Linear(mlp.up, inputs, mlp.up_shift, Limits::of_signed(scheme.scan_output_bits));
    silu_ = Activation(Activation::Kind::silu, network.tables.silu);
    gate_ = Requantizer(Integers(network.shape.mlp, mlp.gate_shift),
                        Limits::of_signed(scheme.gate_bits), activated_bound);
    gated_ = Gate(mlp.gated_shift, Limits::of_signed(inputs),
                  scheme.scan_output_bits + scheme.gate_bits);
    out_ = Linear(mlp.down, inputs, mlp.out_shift, Limits::of_signed(scheme.residual_bits));
}

void MlpBlock::run(const Kernels& kernels, Rows32& residual, std::size_t tokens, BlockState&,
                   const Probes& probes) const {
    // The gate takes the place of its argument, and the product that of `up`.
    thread_local MlpValues own;
    auto& [norm, gate, gated, totals] = own;
    norm_.run(kernels, residual, tokens, norm);
    probes("mlp_norm", index_, norm, tokens);
    z_.run(kernels, norm, tokens, gate);
    silu_.run(kernels, gate, tokens, gate_, gate);
    probes("mlp_gate", index_, gate, tokens);
    up_.run(kernels, norm, tokens, gated);
    probes("up", index_, gated, tokens);
    gated_.run(kernels, gated, gate, tokens, gated);
    probes("mlp_gated", index_, gated, tokens);
    out_.add(kernels, gated, tokens, totals, residual);
    probes("mlp_residual", index_, residual, tokens);
}

}  // namespace scanwright
