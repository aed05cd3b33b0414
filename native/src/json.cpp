#include "json.hpp"

#include <array>
#include <charconv>
#include <cstdio>

#include "scanwright/scanwright.hpp"

namespace scanwright {

namespace {

constexpr int depth_limit = 64;

[[noreturn]] void fail(const std::string& what) { throw Error("JSON: " + what); }

void append_utf8(std::string& out, std::uint32_t code) {
    const auto tail = [&](unsigned shift) {
        out += static_cast<char>(0x80U | ((code >> shift) & 0x3FU));
    };
    if (code < 0x80) {
        out += static_cast<char>(code);
    } else if (code < 0x800) {
        out += static_cast<char>(0xC0U | (code >> 6));
        tail(0);
    } else if (code < 0x10000) {
        out += static_cast<char>(0xE0U | (code >> 12));
        tail(6);
        tail(0);
    } else {
        out += static_cast<char>(0xF0U | (code >> 18));
        tail(12);
        tail(6);
        tail(0);
    }
}

// Returns the code point at `position` of valid UTF-8 and moves behind it.
std::uint32_t next_code(const std::string& text, std::size_t& position) {
    const auto byte = [&](std::size_t i) -> std::uint32_t {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const std::uint32_t first = byte(position);
    const unsigned length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    std::uint32_t code = length == 1 ? first : first & (0xFFU >> (length + 1));
    for (unsigned i = 1; i < length; ++i) code = (code << 6) | (byte(position + i) & 0x3FU);
    position += length;
    return code;
}

void append_escape(std::string& out, std::uint32_t unit) {
    std::array<char, 16> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "\\u%04x", unit);
    out += buffer.data();
}

void write_string(const std::string& text, std::string& out) {
    out += '"';
    for (std::size_t i = 0; i < text.size();) {
        const std::uint32_t code = next_code(text, i);
        switch (code) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            case '\b': out += "\\b"; break;
            case '\f': out += "\\f"; break;
            default:
                if (code >= 0x20 && code < 0x7F) {
                    out += static_cast<char>(code);
                } else if (code < 0x10000) {
                    append_escape(out, code);
                } else {
                    append_escape(out, 0xD800 + ((code - 0x10000) >> 10));
                    append_escape(out, 0xDC00 + ((code - 0x10000) & 0x3FF));
                }
        }
    }
    out += '"';
}

}  // namespace

class JsonParser {
public:
    explicit JsonParser(std::string_view text) : text_(text) {}

    Json whole() {
        Json value = parse_value(0);
        skip_space();
        if (position_ != text_.size()) fail("text behind the value");
        return value;
    }

private:
    char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }

    void skip_space() {
        while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') ++position_;
    }

    bool accept(char wanted) {
        skip_space();
        if (peek() != wanted) return false;
        ++position_;
        return true;
    }

    void expect(char wanted) {
        if (!accept(wanted)) fail(std::string("'") + wanted + "' expected");
    }

    void expect_word(std::string_view word) {
        if (text_.substr(position_, word.size()) != word) fail("unknown word");
        position_ += word.size();
    }

    Json parse_value(int depth) {
        if (depth > depth_limit) fail("nested too deeply");
        skip_space();
        Json value;
        switch (peek()) {
            case '{': parse_object(value, depth); break;
            case '[': parse_array(value, depth); break;
            case '"':
                value.kind_ = Json::Kind::string;
                value.text_ = parse_string();
                break;
            case 't': expect_word("true"), set_boolean(value, "true"); break;
            case 'f': expect_word("false"), set_boolean(value, "false"); break;
            case 'n': expect_word("null"); break;
            default: parse_number(value);
        }
        return value;
    }

    static void set_boolean(Json& value, const char* text) {
        value.kind_ = Json::Kind::boolean;
        value.text_ = text;
    }

    void parse_object(Json& value, int depth) {
        value.kind_ = Json::Kind::object;
        expect('{');
        if (accept('}')) return;
        do {
            skip_space();
            std::string name = parse_string();
            expect(':');
            value.members_[std::move(name)] = parse_value(depth + 1);
        } while (accept(','));
        expect('}');
    }

    void parse_array(Json& value, int depth) {
        value.kind_ = Json::Kind::array;
        expect('[');
        if (accept(']')) return;
        do {
            value.items_.push_back(parse_value(depth + 1));
        } while (accept(','));
        expect(']');
    }

    void parse_number(Json& value) {
        constexpr std::string_view allowed = "+-.0123456789eE";
        const std::size_t start = position_;
        while (position_ < text_.size() && allowed.find(text_[position_]) != allowed.npos) {
            ++position_;
        }
        if (start == position_) fail("a value expected");
        value.kind_ = Json::Kind::number;
        value.text_ = std::string(text_.substr(start, position_ - start));
    }

    std::uint32_t parse_unit() {
        std::uint32_t unit = 0;
        const std::string_view digits = text_.substr(position_, 4);
        const auto end = digits.data() + digits.size();
        const auto [rest, error] = std::from_chars(digits.data(), end, unit, 16);
        if (digits.size() != 4 || rest != end || error != std::errc()) fail("bad \\u escape");
        position_ += 4;
        return unit;
    }

    void parse_escape(std::string& out) {
        const char kind = peek();
        ++position_;
        switch (kind) {
            case 'n': out += '\n'; return;
            case 'r': out += '\r'; return;
            case 't': out += '\t'; return;
            case 'b': out += '\b'; return;
            case 'f': out += '\f'; return;
            case '"':
            case '\\':
            case '/': out += kind; return;
            case 'u': break;
            default: fail("unknown escape");
        }
        std::uint32_t code = parse_unit();
        if (code >= 0xD800 && code < 0xDC00 && text_.substr(position_, 2) == "\\u") {
            position_ += 2;
            code = 0x10000 + ((code - 0xD800) << 10) + (parse_unit() - 0xDC00);
        }
        append_utf8(out, code);
    }

    std::string parse_string() {
        if (peek() != '"') fail("a string expected");
        ++position_;
        std::string out;
        while (peek() != '"') {
            if (position_ >= text_.size() || static_cast<unsigned char>(peek()) < 0x20) {
                fail("a string without an end");
            }
            const char next = text_[position_++];
            if (next == '\\') {
                parse_escape(out);
            } else {
                out += next;
            }
        }
        ++position_;
        return out;
    }

    std::string_view text_;
    std::size_t position_ = 0;
};

Json Json::parse(std::string_view text) { return JsonParser(text).whole(); }

const Json* Json::find(const std::string& name) const {
    const auto found = members_.find(name);
    return found == members_.end() ? nullptr : &found->second;
}

const Json& Json::at(const std::string& name) const {
    const Json* found = find(name);
    if (found == nullptr) throw Error("lacks '" + name + "'");
    return *found;
}

const std::vector<Json>& Json::items() const {
    if (kind_ != Kind::array) fail("a list expected");
    return items_;
}

const Json::Object& Json::members() const {
    if (kind_ != Kind::object) fail("an object expected");
    return members_;
}

const std::string& Json::text() const {
    if (kind_ != Kind::string) fail("a string expected");
    return text_;
}

std::int64_t Json::integer() const {
    std::int64_t value = 0;
    const auto end = text_.data() + text_.size();
    const auto [rest, error] = std::from_chars(text_.data(), end, value);
    if (kind_ != Kind::number || rest != end || error != std::errc()) fail("an integer expected");
    return value;
}

bool Json::boolean() const {
    if (kind_ != Kind::boolean) fail("true or false expected");
    return text_ == "true";
}

std::string Json::dump() const {
    std::string out;
    write(out);
    return out;
}

void Json::write(std::string& out) const {
    const char* separator = "";
    switch (kind_) {
        case Kind::null: out += "null"; break;
        case Kind::boolean:
        case Kind::number: out += text_; break;
        case Kind::string: write_string(text_, out); break;
        case Kind::array:
            out += '[';
            for (const Json& item : items_) {
                out += separator;
                item.write(out);
                separator = ", ";
            }
            out += ']';
            break;
        case Kind::object:
            out += '{';
            for (const auto& [name, item] : members_) {
                out += separator;
                write_string(name, out);
                out += ": ";
                item.write(out);
                separator = ", ";
            }
            out += '}';
            break;
    }
}

}  // namespace scanwright
