#include "data/document_text.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace trireme {
namespace {

[[noreturn]] void fail(const RawDocument& line, const std::string& what) {
    throw Error(ExitCode::bad_data, line.path + ":" + std::to_string(line.line) + ": " + what);
}

std::string keys_of(const nlohmann::json& object) {
    std::string keys;
    size_t n = 0;
    for (const auto& item : object.items()) {
        if (++n > 8) return keys + ", ...";
        keys += (keys.empty() ? "" : ", ") + item.key();
    }
    return keys.empty() ? "none" : keys;
}

}  // namespace

std::string text_of_json_line(const RawDocument& line, const std::string& key) {
    nlohmann::json object;
    try {
        object = nlohmann::json::parse(line.bytes);
    } catch (const nlohmann::json::parse_error& error) {
        fail(line, "not valid JSON near byte " + std::to_string(error.byte) +
                       " of the line; expected one JSON object a line");
    }
    if (!object.is_object()) {
        fail(line, std::string("found a JSON ") + object.type_name() +
                       ", expected an object with the key '" + key + "'");
    }
    const auto found = object.find(key);
    if (found == object.end()) {
        fail(line, "no key '" + key + "'; keys found: " + keys_of(object) +
                       "; name the right one with --text-key");
    }
    if (!found->is_string()) {
        fail(line, "key '" + key + "' holds a JSON " + found->type_name() + ", expected a string");
    }
    return found->get<std::string>();
}

}  // namespace trireme
