#include "block.hpp"

#include <algorithm>

#include "team.hpp"

namespace scanwright {

void Probes::record(const char* name, int layer, const Rows32& values, std::size_t count,
                    std::size_t width) const {
    std::vector<std::int32_t> compact(count * width);
    for (std::size_t i = 0; i < count; ++i) {
        std::copy_n(values.row(i), width, compact.data() + i * width);
    }
    probe_(name, layer, compact.data(), count, width);
}

MixerBlock::MixerBlock(const Network& network, std::size_t index)
    : index_(static_cast<int>(index)),
      channels_(network.shape.d_inner),
      convolved_(network.shape.is_convolved()),
      shared_(network.share.has_value()) {
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
    out_ = Linear(layer.out_proj, inputs, layer.out_shift, Limits::of_signed(scheme.residual_bits),
                  network.share);
}

void MixerBlock::run(const Kernels& kernels, Rows32& residual, std::size_t tokens,
                     BlockState& state, const Probes& probes) const {
    MixerValues& own = MixerValues::of_thread();
    project(kernels, residual, tokens, own.in, probes);
    finish(kernels, own, residual, tokens, state, probes);
}

void MixerBlock::project(const Kernels& kernels, const Rows32& residual, std::size_t tokens,
                         MixerInputs& in, const Probes& probes) const {
    norm_.run(kernels, residual, tokens, in.norm);
    probes("norm", index_, in.norm, tokens);
    x_.run(kernels, in.norm, tokens, in.x);
    probes("x", index_, in.x, tokens);
    if (!z_) return;
    z_->run(kernels, in.norm, tokens, in.gate);
    silu_.run(kernels, in.gate, tokens, gate_, in.gate);
}

std::size_t MixerBlock::table_bytes(std::size_t vocabulary) const {
    const std::size_t width =
        x_.rows() + (z_ ? z_->rows() : 0) + (reads_norm() ? norm_.width() : 0);
    return vocabulary * width * sizeof(std::int32_t);
}

void MixerBlock::tabulate(const Kernels& kernels, const Rows32& embedded, std::size_t first,
                          std::size_t count, std::size_t vocabulary) {
    if (!table_) table_.emplace();
    MixerInputs& in = MixerValues::of_thread().in;
    project(kernels, embedded, count, in, Probes(no_probe));
    const auto keep = [&](const Rows32& values, Rows32& all) {
        if (first == 0) all.shape(vocabulary, values.width());
        std::copy_n(values.row(0), count * values.stride(), all.row(first));
    };
    if (reads_norm()) keep(in.norm, table_->norm);
    keep(in.x, table_->x);
    if (z_) keep(in.gate, table_->gate);
}

void MixerBlock::run_tabulated(const Kernels& kernels, const std::int64_t* ids, Rows32& residual,
                               std::size_t tokens, BlockState& state) const {
    MixerValues& own = MixerValues::of_thread();
    const auto look_up = [&](const Rows32& all, Rows32& values) {
        values.shape(tokens, all.width());
        for (std::size_t t = 0; t < tokens; ++t) {
            const auto row = static_cast<std::size_t>(ids[t]);
            std::copy_n(all.row(row), all.stride(), values.row(t));
        }
    };
    if (reads_norm()) look_up(table_->norm, own.in.norm);
    look_up(table_->x, own.in.x);
    if (z_) look_up(table_->gate, own.in.gate);
    finish(kernels, own, residual, tokens, state, Probes(no_probe));
}

void MixerBlock::finish(const Kernels& kernels, MixerValues& own, Rows32& residual,
                        std::size_t tokens, BlockState& state, const Probes& probes) const {
    Rows32& mixed = convolve(kernels, own, tokens, state);
    if (convolved_) probes("convolution", index_, mixed, tokens);
    const Rows32& scan_u = store(kernels, own, mixed, tokens, probes);
    if (z_) probes("gate", index_, own.in.gate, tokens);
    mix(kernels, own, scan_u, tokens, state, probes);
    if (z_) {
        gated_.run(kernels, own.gated, own.in.gate, tokens, own.gated);
    } else {
        ungated_.run(kernels, own.gated, tokens, own.gated);
    }
    probes("gated", index_, own.gated, tokens);
    const Rows32* outputs = &leave(kernels, own, tokens, probes);
    if (rotation_ && shared_) {  // it mixes the channels of all
        Seat::of_thread().gather(*outputs, tokens, own.gathered);
        outputs = &own.gathered;
    }
    if (rotation_) {
        rotation_->run(kernels, *outputs, tokens, own.rotated);
        probes("rotated", index_, own.rotated, tokens);
        outputs = &own.rotated;
    }
    out_.add(kernels, *outputs, tokens, own.totals, residual);
    probes("residual", index_, residual, tokens);
}

// Stores SiLU's results for x_proj and for the scan; returns what the scan reads.
const Rows32& MixerBlock::store(const Kernels& kernels, MixerValues& own, Rows32& mixed,
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
