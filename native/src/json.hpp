// JSON as the manifests need it: parsed to values, written back as Python's json.dumps does.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace scanwright {

// One JSON value. Numbers keep their text, so that writing gives back what was read.
class Json {
public:
    enum class Kind { null, boolean, number, string, array, object };
    using Object = std::map<std::string, Json>;  // sorted by name, as json.dumps(sort_keys=True)

    // Parses a whole text. Throws Error at a syntax error.
    static Json parse(std::string_view text);

    Kind kind() const { return kind_; }
    bool has(const std::string& name) const { return find(name) != nullptr; }
    const Json* find(const std::string& name) const;

    // The member of an object; throws Error, naming it, if it is missing.
    const Json& at(const std::string& name) const;

    const std::vector<Json>& items() const;
    const Object& members() const;
    const std::string& text() const;
    std::int64_t integer() const;
    bool boolean() const;

    void erase(const std::string& name) { members_.erase(name); }

    // json.dumps(value, sort_keys=True) of Python: ASCII, ", " and ": " as separators.
    std::string dump() const;

private:
    friend class JsonParser;
    void write(std::string& out) const;

    Kind kind_ = Kind::null;
    std::string text_;  // of a number or string (UTF-8), or "true" and "false"
    std::vector<Json> items_;
    Object members_;
};

}  // namespace scanwright
