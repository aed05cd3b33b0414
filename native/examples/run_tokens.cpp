// Runs a language model on tokens from a file and prints the arg-max of every token.
//
//     run_tokens ARTIFACT TOKENS [INSTRUCTIONS [THREADS]]
//
// TOKENS holds whitespace-separated numbers, a sequence a line; the state is reset between lines.
// With THREADS above 1 so many compute a sequence together. The output has the same form. The exit
// code is 0, or 2 with one line of reason on stderr.
#include <algorithm>
#include <iostream>

#include "command.hpp"

namespace {

// Runs the lines of a file by an executor of one thread or of several, and its state.
template <typename Executor, typename State>
void run_lines(const Executor& executor, State state, std::ifstream& file) {
    std::vector<std::int32_t> logits(executor.program().shape().vocabulary);
    for (std::string line; std::getline(file, line);) {
        const char* separator = "";
        for (const std::int64_t token : parse_line(line, "tokens")) {
            executor.step(token, state, logits.data());
            const auto best = std::max_element(logits.begin(), logits.end());
            std::cout << separator << best - logits.begin();
            separator = " ";
        }
        std::cout << '\n';
        state.reset();
    }
}

std::size_t parse_threads(const std::string& word) {
    std::istringstream words(word);
    int threads = 0;
    if (!(words >> threads) || !words.eof() || threads < 1) {
        throw scanwright::Error("threads '" + word + "' are no positive number");
    }
    return static_cast<std::size_t>(threads);
}

void run(const std::vector<std::string>& words) {
    if (words.size() < 2 || words.size() > 4) {
        throw scanwright::Error("usage: run_tokens ARTIFACT TOKENS [INSTRUCTIONS [THREADS]]");
    }
    const auto program = scanwright::Program::load(words[0]);
    const auto instructions = parse_instructions(words, 2);
    const std::size_t threads = words.size() == 4 ? parse_threads(words[3]) : 1;
    std::ifstream file = open_lines(words[1], "tokens");
    if (threads == 1) {
        run_lines(scanwright::Executor(program, instructions), scanwright::State(program), file);
    } else {
        const scanwright::TeamExecutor executor(program, threads, instructions);
        run_lines(executor, scanwright::TeamState(executor), file);
    }
}

}  // namespace

int main(int count, char** words) { return exit_code(run, count, words); }
