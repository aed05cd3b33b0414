// The Python module native._core: bytes and NumPy arrays in, NumPy arrays out.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "scanwright/scanwright.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using scanwright::Executor;
using scanwright::Instructions;
using scanwright::Program;
using scanwright::Shape;
using scanwright::State;
using scanwright::TeamExecutor;
using scanwright::TeamState;

using Int64In = nb::ndarray<const std::int64_t, nb::c_contig, nb::device::cpu>;
using Int64Out = nb::ndarray<nb::numpy, std::int64_t>;
using LogitsOut = nb::ndarray<std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// One sequence, step by step. Its logits are copied out of one array: handing over another one, or
// making it here, would cost several percent of every step.
template <typename Runner, typename Sequence>
struct Stepper {
    const Runner& executor;
    Sequence& state;
    std::int32_t* logits;
    nb::object copy;  // of the array

    Stepper(const Runner& own, Sequence& sequence, const nb::object& array)
        : executor(own), state(sequence), copy(array.attr("copy")) {
        const auto out = nb::cast<LogitsOut>(array);
        if (out.size() != own.program().shape().vocabulary) {
            throw nb::value_error("logits have not the vocabulary's size");
        }
        logits = out.data();
    }

    nb::object step(std::int64_t token) const {
        executor.step(token, state, logits);
        return copy();
    }
};

Int64Out owned(std::vector<std::int64_t>&& values, std::initializer_list<std::size_t> shape) {
    auto* kept = new std::vector<std::int64_t>(std::move(values));
    nb::capsule owner(kept, [](void* pointer) noexcept {
        delete static_cast<std::vector<std::int64_t>*>(pointer);
    });
    return Int64Out(kept->data(), shape, owner);
}

Int64Out widened(const std::vector<std::int32_t>& values,
                 std::initializer_list<std::size_t> shape) {
    return owned({values.begin(), values.end()}, shape);
}

// Hands values to a Python function (name, layer, values (count, width) int64).
scanwright::Probe probe_of(const std::optional<nb::callable>& function) {
    if (!function) return {};
    return [&function](const char* name, int layer, const std::int32_t* values, std::size_t count,
                       std::size_t width) {
        (*function)(name, layer, widened({values, values + count * width}, {count, width}));
    };
}

std::vector<std::int32_t> narrowed(const Int64In& values) {
    std::vector<std::int32_t> result(values.size());
    std::transform(values.data(), values.data() + values.size(), result.begin(),
                   [](std::int64_t value) {
                       return static_cast<std::int32_t>(
                           std::clamp<std::int64_t>(value, INT32_MIN, INT32_MAX));
                   });
    return result;
}

// A state is made of `Source`, a program or an executor.
template <typename Sequence, typename Source>
void bind_state(nb::module_& module, const char* name) {
    nb::class_<Sequence>(module, name)
        .def(nb::init<const Source&>(), "source"_a)
        .def("copy", [](const Sequence& own) { return Sequence(own); })
        .def("reset", &Sequence::reset)
        .def("window", [](const Sequence& own) {
            std::vector<std::int32_t> values = own.window();
            return widened(values, {values.size()});
        })
        .def("scan", [](const Sequence& own) {
            std::vector<std::int32_t> values = own.scan();
            return widened(values, {values.size()});
        })
        .def("restore", [](Sequence& own, const Int64In& window, const Int64In& scan) {
            own.restore(narrowed(window), narrowed(scan));
        }, "window"_a, "scan"_a);
}

template <typename Runner, typename Sequence>
void bind_stepper(nb::module_& module, const char* name) {
    using Own = Stepper<Runner, Sequence>;
    nb::class_<Own>(module, name)
        .def(nb::init<const Runner&, Sequence&, const nb::object&>(), "executor"_a, "state"_a,
             "logits"_a, nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
        .def("step", &Own::step, "token"_a);
}

Instructions instructions_of(const std::string& name) {
    return name.empty() ? scanwright::best_instructions() : scanwright::find_instructions(name);
}

template <typename Runner, typename Sequence>
Int64Out generated(const Runner& own, std::int64_t token, std::size_t count, Sequence& state) {
    std::vector<std::int64_t> tokens(count);
    {
        const nb::gil_scoped_release released;
        own.generate(token, count, state, tokens.data());
    }
    return owned(std::move(tokens), {count});
}

void bind_team(nb::module_& module) {
    nb::class_<TeamExecutor>(module, "TeamExecutor")
        .def("__init__", [](TeamExecutor* own, const Program& program, std::size_t threads,
                            const std::string& name) {
            new (own) TeamExecutor(program, threads, instructions_of(name));
        }, "program"_a, "threads"_a, "instructions"_a)
        .def("forward", [](const TeamExecutor& own, const Int64In& tokens, TeamState& state) {
            const std::size_t vocabulary = own.program().shape().vocabulary;
            std::vector<std::int32_t> logits(tokens.size() * vocabulary);
            {
                const nb::gil_scoped_release released;
                own.forward(tokens.data(), tokens.size(), state, logits.data());
            }
            return widened(logits, {tokens.size(), vocabulary});
        }, "tokens"_a, "state"_a)
        .def("generate", &generated<TeamExecutor, TeamState>, "token"_a, "count"_a, "state"_a);
}

void bind_executor(nb::module_& module) {
    nb::class_<Executor>(module, "Executor")
        .def("__init__", [](Executor* own, const Program& program, const std::string& name) {
            new (own) Executor(program, instructions_of(name));
        }, "program"_a, "instructions"_a)
        .def("forward", [](const Executor& own, const Int64In& tokens, State& state,
                           const std::optional<nb::callable>& probe) {
            const std::size_t vocabulary = own.program().shape().vocabulary;
            std::vector<std::int32_t> logits(tokens.size() * vocabulary);
            const scanwright::Probe function = probe_of(probe);
            if (function) {
                own.forward(tokens.data(), tokens.size(), state, logits.data(), function);
            } else {
                const nb::gil_scoped_release released;
                own.forward(tokens.data(), tokens.size(), state, logits.data());
            }
            return widened(logits, {tokens.size(), vocabulary});
        }, "tokens"_a, "state"_a, "probe"_a.none())
        .def("generate", &generated<Executor, State>, "token"_a, "count"_a, "state"_a)
        .def("frames", [](const Executor& own, const Int64In& features, std::size_t count,
                          State* state, const std::optional<nb::callable>& probe) {
            const std::size_t outputs = own.program().shape().vocabulary;
            std::vector<std::int32_t> results(count * outputs);
            const auto run = [&](const scanwright::Probe& function) {
                if (state == nullptr) {  // each frame by itself
                    own.frames(features.data(), count, results.data(), function);
                } else {
                    own.advance(features.data(), count, *state, results.data(), function);
                }
            };
            if (probe) {
                run(probe_of(probe));
            } else {
                const nb::gil_scoped_release released;
                run({});
            }
            return widened(results, {count, outputs});
        }, "features"_a, "count"_a, "state"_a.none(), "probe"_a.none());
}

}  // namespace

NB_MODULE(_core, module) {
    // Bad input is golden.errors.InputError, whichever back end finds it.
    nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
        try {
            std::rethrow_exception(pointer);
        } catch (const scanwright::Error& error) {
            const nb::object kind = nb::module_::import_("golden.errors").attr("InputError");
            // A damaged file may hold names that are no UTF-8.
            const nb::object message = nb::steal(
                PyUnicode_DecodeUTF8(error.what(), std::strlen(error.what()), "backslashreplace"));
            PyErr_SetObject(kind.ptr(), message.ptr());
        }
    });
    module.def("available_instructions", [] {
        std::vector<std::string> names;
        for (const Instructions own : scanwright::available_instructions()) {
            names.emplace_back(scanwright::instructions_name(own));
        }
        return names;
    });
    nb::class_<Program>(module, "Program")
        .def_static("load", &Program::load, "path"_a)
        .def_static("from_bytes", [](const nb::bytes& data, const std::string& name) {
            return Program::from_bytes({data.c_str(), data.size()}, name);
        }, "data"_a, "name"_a);
    bind_state<State, Program>(module, "State");
    bind_executor(module);
    bind_stepper<Executor, State>(module, "Stepper");
    bind_team(module);
    bind_state<TeamState, TeamExecutor>(module, "TeamState");
    bind_stepper<TeamExecutor, TeamState>(module, "TeamStepper");
}
