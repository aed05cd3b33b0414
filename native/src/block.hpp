// The blocks of a network: sequences of operations on the residual stream.
#pragma once

#include <memory>

#include "operations.hpp"

namespace scanwright {

// What a sequence leaves behind in one block.
struct BlockState {
    Values window;        // (K - 1, channels), rows padded
    Aligned<float> scan;  // integers; (blocks of channels, states, 16)
};

// Named values on their way to a probe, if there is one.
class Probes {
public:
    explicit Probes(const Probe& probe) : probe_(probe) {}
    explicit operator bool() const { return static_cast<bool>(probe_); }
    void operator()(const char* name, int layer, const Rows32& values, std::size_t count) const {
        (*this)(name, layer, values, count, values.width());
    }

    // The same of the first `width` values of each row.
    void operator()(const char* name, int layer, const Rows32& values, std::size_t count,
                    std::size_t width) const;

private:
    const Probe& probe_;
};

class Block {
public:
    Block() = default;
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    virtual ~Block() = default;

    // Runs a block of tokens, (tokens, d), in place and advances the state.
    virtual void run(const Kernels& kernels, Rows32& residual, std::size_t tokens,
                     BlockState& state, const Probes& probes) const = 0;
};

// What a Mamba-2 block has in place of x_proj and dt_proj.
struct HeadOperations {
    Linear dt;
    Integers dt_bias;
    Requantizer delta;  // clamps to the limits of the step size
    Normalization norm;

    // Adds the bias to dt, saturating.
    void add_bias(Rows32& dt_rows, std::size_t tokens) const;
};

// One Mamba block of either family.
class MambaBlock : public Block {
public:
    MambaBlock(const Network& network, std::size_t index, std::shared_ptr<const DecayTable> decay);
    void run(const Kernels& kernels, Rows32& residual, std::size_t tokens, BlockState& state,
             const Probes& probes) const override;

private:
    struct Workspace;
    void mix(const Kernels& kernels, Workspace& own, std::size_t tokens, BlockState& state,
             const Probes& probes) const;

    void select(const Kernels& kernels, Workspace& own, std::size_t tokens,
                const Probes& probes) const;
    void select_heads(const Kernels& kernels, Workspace& own, std::size_t tokens,
                      const Probes& probes) const;
    void prepare_heads(const Network& network, const MambaLayer& layer);
    void decays(const Rows32& delta, std::size_t tokens, Rows32& out) const;

    int index_;
    std::size_t channels_;  // e
    Normalization norm_;
    Linear x_, z_, projected_, dt_, out_;
    Convolution convolution_;
    Activation silu_, softplus_;
    Requantizer u_, gate_, delta_;
    std::optional<DualScaleStorage> dual_scale_;
    std::optional<Requantizer> scan_u_;  // where the scan's input has another width than u
    std::optional<HeadOperations> heads_;
    std::shared_ptr<const DecayTable> decay_;
    Integers rate_;  // with heads, for their decays' probe
    int argument_shift_;
    Scan scan_;
    Gate gated_;
    std::optional<Rotation> rotation_;
};

// The gated MLP behind a mixer; it has no state.
class MlpBlock : public Block {
public:
    MlpBlock(const Network& network, std::size_t index);
    void run(const Kernels& kernels, Rows32& residual, std::size_t tokens, BlockState& state,
             const Probes& probes) const override;

private:
    int index_;
    Normalization norm_;
    Linear z_, up_, out_;
    Activation silu_;
    Requantizer gate_;
    Gate gated_;
};

}  // namespace scanwright
