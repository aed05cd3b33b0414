// The file of a program: a safetensors container whose metadata is a JSON manifest with a hash.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "json.hpp"

namespace scanwright {

// Integers with a shape, whatever width the file stores them in.
struct Tensor {
    std::vector<std::size_t> shape;
    std::vector<std::int32_t> values;
};

struct Artifact {
    Json program;  // the scalars, nested as golden.program nests them
    std::map<std::string, Tensor> tensors;

    // Throws Error, beginning with `name`, if magic, version, sizes or SHA-256 are wrong.
    static Artifact parse(std::string_view bytes, const std::string& name);
};

}  // namespace scanwright
