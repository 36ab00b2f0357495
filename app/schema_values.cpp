#include "app/schema_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <type_traits>

#include "app/config_problems.h"

namespace trireme {

namespace {

std::string join_or(const std::vector<std::string>& words) {
    std::string out;
    for (size_t i = 0; i < words.size(); ++i) {
        if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
        out += words[i];
    }
    return out;
}

// The characters of a plain scalar without a leading plus; empty when it is no plain scalar.
std::string_view plain_digits(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::scalar || node.quoted) return {};
    std::string_view text = node.text;
    if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
    return text;
}

// A number as it was written, rounded to a T.
template <typename T>
struct Rounded {
    T value{};
    bool is_out_of_range = false;  // too large or too small for a T: infinite or 0
};

template <typename T>
std::optional<Rounded<T>> parse_floating(const YamlNode& node) {
    const std::string_view text = plain_digits(node);
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (end != text.data() + text.size()) return std::nullopt;
    if (error == std::errc()) return Rounded<T>{value};
    if (error != std::errc::result_out_of_range) return std::nullopt;
    // Which of the two, from_chars does not tell.
    const std::string digits(text);
    if constexpr (std::is_same_v<T, float>) {
        return Rounded<T>{std::strtof(digits.c_str(), nullptr), true};
    } else {
        return Rounded<T>{std::strtod(digits.c_str(), nullptr), true};
    }
}

bool is_within(const NumberRange& range, double value) {
    if (!std::isfinite(value)) return false;
    if (value < range.least || (range.above_least && value <= range.least)) return false;
    return !(value > range.most || (range.below_most && value >= range.most));
}

// The value as it is computed with, which is no more what was written where it says so: ", which is
// 0 in single precision".
template <typename T>
std::string rounding_fault(const NumberRange& range, const Rounded<double>& written,
                           const Rounded<T>& held) {
    const std::string precision =
        std::is_same_v<T, float> ? " in single precision" : " in double precision";
    if (std::isinf(held.value) && (written.is_out_of_range || std::isfinite(written.value))) {
        return ", which is infinite" + precision;
    }
    if (held.value == 0 && (written.is_out_of_range || written.value != 0)) {
        return ", which is 0" + precision;
    }
    if (is_within(range, written.value) && !is_within(range, static_cast<double>(held.value))) {
        return ", which is " + number_text(held.value) + precision;
    }
    return "";
}

// `Held` is the type that is computed with.
template <typename Held, typename T>
std::string read_floating(const YamlNode& node, const NumberRange& range, T& to) {
    const std::string expected =
        ", expected a number" +
        (range.to_string().empty() ? std::string() : ", " + range.to_string());
    const auto written = parse_floating<double>(node);
    const auto held = parse_floating<Held>(node);
    if (!written || !held) {
        return found(node) + (node.quoted ? "" : ", which is no number") + expected;
    }
    const std::string fault = rounding_fault(range, *written, *held);
    if (!fault.empty() || !is_within(range, static_cast<double>(held->value))) {
        return found(node) + fault + expected;
    }
    if constexpr (std::is_same_v<T, double>) {
        to = written->value;
    } else {
        to = held->value;
    }
    return "";
}

template <typename T>
std::string floating_text(T value) {
    char text[64];
    const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
    return error == std::errc() ? std::string(text, end) : std::string("0");
}

bool has_control_character(const std::string& text) {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return true;
    }
    return false;
}

}  // namespace

std::string WholeRange::to_string() const {
    if (most == std::numeric_limits<int64_t>::max()) return std::to_string(least) + " or more";
    return std::to_string(least) + " to " + std::to_string(most);
}

std::string NumberRange::to_string() const {
    std::string text;
    if (std::isfinite(least)) {
        text = (above_least ? "above " : "at least ") + number_text(least);
    }
    if (std::isfinite(most)) {
        text += (text.empty() ? "" : " and ") + std::string(below_most ? "below " : "at most ") +
                number_text(most);
    }
    return text;
}

std::string WordList::to_string() const {
    return join_or(words);
}

std::string found(const YamlNode& node) {
    switch (node.kind) {
        case YamlNode::Kind::scalar:
            return node.quoted ? "found the text \"" + shown(node.text) + "\""
                               : "found " + shown(node.text);
        case YamlNode::Kind::list:
            return "found a list";
        case YamlNode::Kind::map:
            return "found a section (key: value)";
        case YamlNode::Kind::null:
        case YamlNode::Kind::refused:
            break;
    }
    return "found nothing";
}

std::string read_whole(const YamlNode& node, const WholeRange& range, int64_t& to) {
    const std::string expected = "expected a whole number, " + range.to_string();
    const std::string_view text = plain_digits(node);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool is_whole = !text.empty() && end == text.data() + text.size();
    if (!is_whole || error != std::errc() || value < range.least || value > range.most) {
        return found(node) + ", " + expected;
    }
    to = value;
    return "";
}

std::string read_number(const YamlNode& node, const NumberRange& range, double& to) {
    return range.is_single ? read_floating<float>(node, range, to)
                           : read_floating<double>(node, range, to);
}

std::string read_number(const YamlNode& node, const NumberRange& range, float& to) {
    return read_floating<float>(node, range, to);
}

std::string read_bool(const YamlNode& node, bool& to) {
    const bool is_word = node.kind == YamlNode::Kind::scalar && !node.quoted;
    // As YAML 1.2 has them; yes, no, on and off are texts.
    const auto is_one_of = [&](std::initializer_list<const char*> words) {
        return is_word && std::find(words.begin(), words.end(), node.text) != words.end();
    };
    const bool is_true = is_one_of({"true", "True", "TRUE"});
    if (!is_true && !is_one_of({"false", "False", "FALSE"})) {
        return found(node) + ", expected true or false";
    }
    to = is_true;
    return "";
}

std::string read_text(const YamlNode& node, std::string& to) {
    if (node.kind != YamlNode::Kind::scalar) return found(node) + ", expected a text";
    if (node.text.empty()) return "found an empty text, expected at least one character";
    if (has_control_character(node.text)) {
        return found(node) + ", expected a text without control characters";
    }
    to = node.text;
    return "";
}

std::string read_word(const YamlNode& node, const WordList& list, size_t& index) {
    const std::string expected = ", expected " + list.to_string();
    if (node.kind != YamlNode::Kind::scalar) return found(node) + expected;
    for (size_t i = 0; i < list.words.size(); ++i) {
        if (node.text == list.words[i]) {
            index = i;
            return "";
        }
    }
    for (const std::string& word : list.unbuilt) {
        if (node.text == word) return "found " + word + ", which is not built in yet" + expected;
    }
    return found(node) + expected + did_you_mean(nearest_word(node.text, list.words));
}

std::string number_text(double value) {
    return floating_text(value);
}
std::string number_text(float value) {
    return floating_text(value);
}

}  // namespace trireme
