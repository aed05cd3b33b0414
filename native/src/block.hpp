// The blocks of a network: sequences of operations on the residual stream.
#pragma once

#include <memory>

#include "operations.hpp"

namespace scanwright {

// Larger than any sum that a requantizer behind an activation meets, and than float32 holds.
constexpr double activated_bound = 1 << 30;

// What a sequence leaves behind in one block.
struct BlockState {
    Window window;        // of a causal convolution
    Aligned<float> scan;  // integers; (blocks of channels, states, 16), of an average one state
};

inline const Probe no_probe;

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
                    std::size_t width) const {
        if (probe_) record(name, layer, values, count, width);
    }

private:
    void record(const char* name, int layer, const Rows32& values, std::size_t count,
                std::size_t width) const;

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

// What a mixer computes of its input alone: norm, x, and the gate SiLU(z).
struct MixerInputs {
    Rows32 norm, x, gate;
};

// What a mixer computes on its way; one for each thread, as blocks run one after another. What an
// operation gives takes the place of what it reads where it can, so that less passes through the
// caches: u that of the convolution's result, the gate that of z, delta that of dt, gated that of y.
struct MixerValues {
    MixerInputs in;
    Rows32 u, activated, scan_u, words, projected, delta, decay, gated, normed, rotated, totals;
    Rows32 gathered;  // from all threads of a team

    static MixerValues& of_thread() {
        thread_local MixerValues values;
        return values;
    }
};

// A mixer of any family: norm, in_proj, convolution, SiLU, gate, rotation and out_proj. What stands
// between SiLU and gate is the family's.
class MixerBlock : public Block {
public:
    MixerBlock(const Network& network, std::size_t index);
    void run(const Kernels& kernels, Rows32& residual, std::size_t tokens, BlockState& state,
             const Probes& probes) const override;

    // The inputs of a language model's first block depend on the token alone. `tabulate` computes
    // those of `count` tokens of a vocabulary from `first` on; with all of them `run_tabulated` runs
    // without norm, in_proj and gate.
    std::size_t table_bytes(std::size_t vocabulary) const;
    void tabulate(const Kernels& kernels, const Rows32& embedded, std::size_t first,
                  std::size_t count, std::size_t vocabulary);
    bool is_tabulated() const { return table_.has_value(); }
    void run_tabulated(const Kernels& kernels, const std::int64_t* ids, Rows32& residual,
                       std::size_t tokens, BlockState& state) const;

protected:
    // Convolves x into SiLU's input, both of `own`; returns that input, u or x.
    virtual Rows32& convolve(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                                   BlockState& state) const = 0;
    // Computes y from u and the scan's own input, in place of `gated`.
    virtual void mix(const Kernels& kernels, MixerValues& own, const Rows32& scan_u,
                     std::size_t tokens, BlockState& state, const Probes& probes) const = 0;
    // Whether `mix` reads the norm as well.
    virtual bool reads_norm() const { return false; }
    // Returns what rotation and out_proj read.
    virtual Rows32& leave(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                          const Probes& probes) const;

    int index() const { return index_; }
    std::size_t channels() const { return channels_; }
    bool is_convolved() const { return convolved_; }

private:
    void project(const Kernels& kernels, const Rows32& residual, std::size_t tokens,
                 MixerInputs& in, const Probes& probes) const;
    void finish(const Kernels& kernels, MixerValues& own, Rows32& residual, std::size_t tokens,
                BlockState& state, const Probes& probes) const;
    const Rows32& store(const Kernels& kernels, MixerValues& own, Rows32& mixed,
                        std::size_t tokens, const Probes& probes) const;

    int index_;
    std::size_t channels_;  // e
    bool convolved_;
    bool shared_;  // by a team of threads, each with its channels
    Normalization norm_;
    Linear x_, out_;
    std::optional<Linear> z_;  // none without a gate
    Activation silu_;
    Requantizer u_, gate_, ungated_;
    std::optional<CodeRange> u_codes_;  // in asymmetric schemes
    std::optional<DualScaleStorage> dual_scale_;
    std::optional<Requantizer> scan_u_;  // where the scan's input has another width than u
    Gate gated_;
    std::optional<Rotation> rotation_;
    std::optional<MixerInputs> table_;
};

// A Mamba block, of either family.
class MambaBlock : public MixerBlock {
public:
    MambaBlock(const Network& network, std::size_t index, std::shared_ptr<const DecayTable> decay);

protected:
    Rows32& convolve(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                     BlockState& state) const override;
    void mix(const Kernels& kernels, MixerValues& own, const Rows32& scan_u, std::size_t tokens,
             BlockState& state, const Probes& probes) const override;
    bool reads_norm() const override { return heads_.has_value(); }
    Rows32& leave(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                  const Probes& probes) const override;

private:
    void select(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                const Probes& probes) const;
    void select_heads(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                      const Probes& probes) const;
    void prepare_heads(const Network& network, const Layer& layer);
    void decays(const Rows32& delta, std::size_t tokens, Rows32& out) const;

    Convolution convolution_;
    Linear projected_, dt_;
    Activation softplus_;
    Requantizer delta_;
    std::optional<HeadOperations> heads_;
    std::shared_ptr<const DecayTable> decay_;
    Integers rate_;  // with heads, for their decays' probe
    int argument_shift_;
    Scan scan_;
};

// A block with a moving average, golden/average.py. It runs whole frames, as its convolution looks
// ahead to their ends.
class AverageBlock : public MixerBlock {
public:
    AverageBlock(const Network& network, std::size_t index);

protected:
    Rows32& convolve(const Kernels& kernels, MixerValues& own, std::size_t tokens,
                     BlockState& state) const override;
    void mix(const Kernels& kernels, MixerValues& own, const Rows32& scan_u, std::size_t tokens,
             BlockState& state, const Probes& probes) const override;

private:
    Convolution convolution_;
    Linear projected_;
    Activation sigmoid_;
    Requantizer decay_;
    double lift_, scale_;
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
