#include "artifact.hpp"

#include <cstring>
#include <limits>

#include "scanwright/scanwright.hpp"
#include "sha256.hpp"

namespace scanwright {

namespace {

constexpr const char* magic = "scanwright-integer-program";
constexpr std::int64_t version = 3;
constexpr const char* remedy =
    "; write it anew with: python -m model.quantize --preset NAME --scheme NAME --out FILE";

// A tensor's place in the file and how NumPy names its type and shape, which the hash covers.
struct Entry {
    std::vector<std::size_t> shape;
    std::size_t item_bytes = 0;
    std::string_view bytes;

    std::string description() const {
        std::string text = item_bytes == 1 ? "|i1" : "<i" + std::to_string(item_bytes);
        text += " (";
        for (std::size_t i = 0; i < shape.size(); ++i) {
            text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
        }
        return text + (shape.size() == 1 ? ",)" : ")");
    }
};

std::size_t item_bytes_of(const std::string& kind) {
    if (kind == "I8") return 1;
    if (kind == "I16") return 2;
    if (kind == "I32") return 4;
    if (kind == "I64") return 8;
    throw Error("type " + kind + " is no integer type of a program");
}

std::size_t as_size(const Json& value) {
    const std::int64_t number = value.integer();
    if (number < 0) throw Error("size " + std::to_string(number) + " is negative");
    return static_cast<std::size_t>(number);
}

Entry parse_entry(const Json& content, std::string_view data) {
    Entry entry;
    entry.item_bytes = item_bytes_of(content.at("dtype").text());
    std::size_t needed = entry.item_bytes;
    for (const Json& size : content.at("shape").items()) {
        entry.shape.push_back(as_size(size));
        if (entry.shape.back() != 0 && needed > data.size() / entry.shape.back()) {
            throw Error("a tensor is larger than the file");
        }
        needed *= entry.shape.back();
    }
    const std::vector<Json>& offsets = content.at("data_offsets").items();
    if (offsets.size() != 2) throw Error("a tensor has no two offsets");
    const std::size_t begin = as_size(offsets[0]), end = as_size(offsets[1]);
    if (begin > end || end > data.size() || end - begin != needed) {
        throw Error("a tensor's offsets do not fit its shape and the file");
    }
    entry.bytes = data.substr(begin, needed);
    return entry;
}

template <typename Item>
void widen(std::string_view bytes, std::vector<std::int32_t>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        Item item;
        std::memcpy(&item, bytes.data() + i * sizeof(Item), sizeof(Item));
        if constexpr (sizeof(Item) > sizeof(std::int32_t)) {
            using Limits = std::numeric_limits<std::int32_t>;
            if (item < Limits::min() || item > Limits::max()) {
                throw Error("value " + std::to_string(item) + " is wider than 32 bits");
            }
        }
        values[i] = static_cast<std::int32_t>(item);
    }
}

Tensor widened(const Entry& entry) {
    Tensor tensor{entry.shape, std::vector<std::int32_t>(entry.bytes.size() / entry.item_bytes)};
    switch (entry.item_bytes) {
        case 1: widen<std::int8_t>(entry.bytes, tensor.values); break;
        case 2: widen<std::int16_t>(entry.bytes, tensor.values); break;
        case 4: widen<std::int32_t>(entry.bytes, tensor.values); break;
        default: widen<std::int64_t>(entry.bytes, tensor.values);
    }
    return tensor;
}

std::string digest(const Json& manifest, const std::map<std::string, Entry>& entries) {
    Sha256 hash;
    hash.update(manifest.dump());
    for (const auto& [name, entry] : entries) {
        hash.update(name + " " + entry.description());
        hash.update(entry.bytes);
    }
    return hash.hexadecimal();
}

struct Container {
    Json manifest;
    std::map<std::string, Entry> entries;
};

Container parse_container(std::string_view bytes) {
    std::uint64_t header_bytes = 0;
    for (std::size_t i = 8; i > 0 && bytes.size() >= 8; --i) {
        header_bytes = (header_bytes << 8) | static_cast<unsigned char>(bytes[i - 1]);
    }
    if (bytes.size() < 8 || header_bytes > bytes.size() - 8) throw Error("its header is cut off");
    const Json header = Json::parse(bytes.substr(8, static_cast<std::size_t>(header_bytes)));
    const std::string_view data = bytes.substr(8 + static_cast<std::size_t>(header_bytes));
    Container container;
    std::size_t covered = 0;
    for (const auto& [name, content] : header.members()) {
        if (name == "__metadata__") continue;
        const Entry entry = parse_entry(content, data);
        covered += entry.bytes.size();
        container.entries.emplace(name, entry);
    }
    if (covered != data.size()) throw Error("its tensors do not fill the file");
    container.manifest = Json::parse(header.at("__metadata__").at("manifest").text());
    return container;
}

std::string as_text(const Json* value) { return value == nullptr ? "None" : value->dump(); }

}  // namespace

Artifact Artifact::parse(std::string_view bytes, const std::string& name) {
    Container container;
    try {
        container = parse_container(bytes);
    } catch (const Error& error) {
        throw Error(name + " is not a program artifact, is corrupt or truncated (" + error.what() +
                    ")" + remedy);
    }
    Json& manifest = container.manifest;
    const Json* own_magic = manifest.find("magic");
    if (as_text(own_magic) != "\"" + std::string(magic) + "\"") {
        throw Error(name + " is not a " + magic + " file" + remedy);
    }
    const Json* own_version = manifest.find("version");
    if (as_text(own_version) != std::to_string(version)) {
        throw Error(name + " has version " + as_text(own_version) + ", this release reads " +
                    std::to_string(version) + remedy);
    }
    const std::string expected = as_text(manifest.find("sha256"));
    manifest.erase("sha256");
    if ("\"" + digest(manifest, container.entries) + "\"" != expected) {
        throw Error(name + " is corrupt: its SHA-256 is not the recorded one" + remedy);
    }
    Artifact artifact;
    try {
        artifact.program = manifest.at("program");
        for (const auto& [full_name, entry] : container.entries) {
            const std::string prefix = "program.";
            if (full_name.compare(0, prefix.size(), prefix) == 0) {
                artifact.tensors.emplace(full_name.substr(prefix.size()), widened(entry));
            }
        }
    } catch (const Error& error) {
        throw Error(name + ": " + error.what() + remedy);
    }
    return artifact;
}

}  // namespace scanwright
