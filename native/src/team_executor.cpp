// One stream by several threads: an executor of each thread's share, and what they leave behind.
#include <algorithm>

#include "share.hpp"
#include "team.hpp"

namespace scanwright {

namespace {

// The values of all shares side by side, row by row.
template <typename Read>
std::vector<std::int32_t> joined(const std::vector<State>& shares, std::size_t rows,
                                 const Read& read) {
    std::vector<std::vector<std::int32_t>> parts;
    for (const State& share : shares) parts.push_back(read(share));
    std::vector<std::int32_t> values;
    for (std::size_t row = 0; row < rows; ++row) {
        for (const auto& part : parts) {
            const std::size_t width = part.size() / rows;
            const auto first = part.begin() + static_cast<std::ptrdiff_t>(row * width);
            values.insert(values.end(), first, first + static_cast<std::ptrdiff_t>(width));
        }
    }
    return values;
}

// Columns of values in rows.
std::vector<std::int32_t> cut(const std::vector<std::int32_t>& values, std::size_t rows,
                              std::size_t first, std::size_t count) {
    std::vector<std::int32_t> part;
    for (std::size_t row = 0; row < rows; ++row) {
        const auto begin =
            values.begin() + static_cast<std::ptrdiff_t>(row * (values.size() / rows) + first);
        part.insert(part.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
    }
    return part;
}

}  // namespace

TeamExecutor::TeamExecutor(const Program& program, std::size_t threads, Instructions instructions)
    : program_(program) {
    check_threads(program.network(), threads);
    for (std::size_t i = 0; i < threads; ++i) {
        const Program share(
            std::make_shared<const Network>(share_of(program.network(), i, threads)));
        shares_.emplace_back(share, instructions);
    }
}

void TeamExecutor::step(std::int64_t token, TeamState& state, std::int32_t* logits) const {
    forward(&token, 1, state, logits);
}

void TeamExecutor::forward(const std::int64_t* tokens, std::size_t count, TeamState& state,
                           std::int32_t* logits) const {
    shares_.front().check_tokens(tokens, count);
    state.team_->run([&](std::size_t member) {
        shares_[member].forward(tokens, count, state.shares_[member],
                                member == 0 ? logits : nullptr);
    });
}

void TeamExecutor::generate(std::int64_t token, std::size_t count, TeamState& state,
                            std::int64_t* tokens) const {
    shares_.front().check_tokens(&token, 1);
    state.team_->run([&](std::size_t member) {
        std::vector<std::int64_t> own(member == 0 ? 0 : count);  // every thread finds the same
        shares_[member].generate(token, count, state.shares_[member],
                                 member == 0 ? tokens : own.data());
    });
}

TeamState::TeamState(const TeamExecutor& executor)
    : program_(executor.program()), team_(std::make_unique<Team>(executor.shares_.size())) {
    for (const Executor& share : executor.shares_) shares_.emplace_back(share.program());
}

TeamState::TeamState(const TeamState& other)
    : program_(other.program_),
      shares_(other.shares_),
      team_(std::make_unique<Team>(other.team_->size())) {}

TeamState::~TeamState() = default;

void TeamState::reset() {
    for (State& share : shares_) share.reset();
}

std::vector<std::int32_t> TeamState::window() const {
    const Shape& shape = program_.shape();
    return joined(shares_, shape.n_layer * shape.window_rows(),
                  [](const State& share) { return share.window(); });
}

std::vector<std::int32_t> TeamState::scan() const {
    return joined(shares_, program_.shape().n_layer,
                  [](const State& share) { return share.scan(); });
}

void TeamState::restore(const std::vector<std::int32_t>& window,
                        const std::vector<std::int32_t>& scan) {
    State(program_).restore(window, scan);  // checks both as a whole
    const Shape& shape = program_.shape();
    for (State& share : shares_) {
        const Share& own = *share.program_.network().share;
        share.restore(cut(window, shape.n_layer * shape.window_rows(), own.first, own.count),
                      cut(scan, shape.n_layer, own.first * shape.d_state,
                          own.count * shape.d_state));
    }
}

}  // namespace scanwright
