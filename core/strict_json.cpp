#include "core/strict_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"

namespace trireme {

using nlohmann::json;

namespace {

[[noreturn]] void fail(const std::string& source, const std::string& what) {
    throw Error(ExitCode::bad_data, source + ": " + what);
}

}  // namespace

json parse_strict_json(std::string_view text, const std::string& source, int max_depth) {
    std::vector<std::set<std::string>> keys;  // of each open object
    const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
        switch (event) {
            case json::parse_event_t::object_start:
                keys.emplace_back();
                [[fallthrough]];
            case json::parse_event_t::array_start:
                if (depth >= max_depth) {
                    fail(source, "nested deeper than " + std::to_string(max_depth) + " levels");
                }
                break;
            case json::parse_event_t::object_end:
                keys.pop_back();
                break;
            case json::parse_event_t::key: {
                const std::string& key = parsed.get_ref<const std::string&>();
                if (!keys.back().insert(key).second) {
                    fail(source, "key '" + key + "' appears twice");
                }
                break;
            }
            default:
                break;
        }
        return true;
    };
    // The parser takes this for the end of the text, and so would not look at what follows.
    if (text.find('\0') != std::string_view::npos) fail(source, "not valid JSON: a byte of zero");
    try {
        return json::parse(text.begin(), text.end(), check);
    } catch (const json::parse_error& error) {
        fail(source, "not valid JSON at byte " + std::to_string(error.byte));
    } catch (const json::exception& error) {
        fail(source, std::string("not valid JSON: ") + error.what());
    }
}

int64_t whole_number(const json& value, const std::string& source, const std::string& what) {
    if (value.is_number_unsigned()) {
        const uint64_t number = value.get<uint64_t>();
        if (number <= static_cast<uint64_t>(INT64_MAX)) return static_cast<int64_t>(number);
    }
    const std::string found = value.is_number() ? value.dump() : value.type_name();
    fail(source, what + " is " + found + ", expected a whole number from 0 to 2^63 - 1");
}

const json& member(const json& object, const char* key, const std::string& source) {
    if (!object.is_object()) fail(source, "expected an object with '" + std::string(key) + "'");
    const auto found = object.find(key);
    if (found == object.end()) fail(source, "'" + std::string(key) + "' is missing");
    return *found;
}

const std::string& string_member(const json& object, const char* key, const std::string& source) {
    const json& value = member(object, key, source);
    if (!value.is_string()) fail(source, "'" + std::string(key) + "' is not a string");
    return value.get_ref<const std::string&>();
}

}  // namespace trireme
