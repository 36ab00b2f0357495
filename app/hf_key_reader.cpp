#include "app/hf_key_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "app/config_problems.h"
#include "core/error.h"

namespace trireme {

using nlohmann::json;

namespace {

constexpr int kMostSize = 10'000'000;  // as in configuration files
constexpr size_t kMostShown = 80;

std::string shown_value(const json& value) {
    const std::string text = value.dump();
    return text.size() <= kMostShown ? text : text.substr(0, kMostShown) + "...";
}

bool says_nothing(const json& value) {
    return value.is_null() || value == json(false) || value == json(0) || value == json(0.0) ||
           ((value.is_string() || value.is_array() || value.is_object()) && value.empty()) ||
           value == json("");
}

}  // namespace

HfKeyReader::HfKeyReader(const json& object, std::string path, std::string prefix)
    : object_(object), path_(std::move(path)), prefix_(std::move(prefix)) {
    if (!object.is_object()) {
        throw Error(ExitCode::bad_data,
                    path_ + ": " + prefix_ + " expected an object, found " + object.type_name());
    }
}

bool HfKeyReader::has(const std::string& key) const {
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null();
}

const json& HfKeyReader::value(const std::string& key) {
    static const json kNull;
    known_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? kNull : *found;
}

int HfKeyReader::whole(const std::string& key, std::optional<int> otherwise) {
    const json& found = value(key);
    if (found.is_null()) {
        if (!otherwise) refuse(key, "is missing");
        return *otherwise;
    }
    if (!found.is_number_unsigned() || found.get<uint64_t>() < 1 ||
        found.get<uint64_t>() > static_cast<uint64_t>(kMostSize)) {
        fail_type(key, "a whole number from 1 to 10000000");
    }
    return found.get<int>();
}

double HfKeyReader::number(const std::string& key, std::optional<double> otherwise) {
    const json& found = value(key);
    if (found.is_null()) {
        if (!otherwise) refuse(key, "is missing");
        return *otherwise;
    }
    if (!found.is_number() || !std::isfinite(found.get<double>())) fail_type(key, "a number");
    return found.get<double>();
}

bool HfKeyReader::boolean(const std::string& key, bool otherwise) {
    const json& found = value(key);
    if (found.is_null()) return otherwise;
    if (!found.is_boolean()) fail_type(key, "true or false");
    return found.get<bool>();
}

std::string HfKeyReader::text(const std::string& key, const std::string& otherwise) {
    const json& found = value(key);
    if (found.is_null()) return otherwise;
    if (!found.is_string()) fail_type(key, "a text");
    return found.get<std::string>();
}

void HfKeyReader::expect(const std::string& key, const std::vector<json>& values) {
    const json& found = value(key);
    if (found.is_null() || std::find(values.begin(), values.end(), found) != values.end()) return;
    refuse(key, "found " + shown_value(found) + ", expected " + shown_value(values.front()) +
                    ", which is all that is supported");
}

void HfKeyReader::ignore(const std::vector<std::string>& keys) {
    known_.insert(keys.begin(), keys.end());
}

void HfKeyReader::refuse_others() const {
    for (const auto& [key, found] : object_.items()) {
        if (known_.count(key) != 0 || says_nothing(found)) continue;
        refuse(key, "found " + shown_value(found) + ", a key that is not supported");
    }
}

void HfKeyReader::refuse(const std::string& key, const std::string& why) const {
    throw Error(ExitCode::config, path_ + ": " + prefix_ + shown(key) + ": " + why);
}

void HfKeyReader::fail_type(const std::string& key, const char* expected) const {
    throw Error(ExitCode::bad_data, path_ + ": " + prefix_ + key + ": found " +
                                        shown_value(object_.at(key)) + ", expected " + expected);
}

}  // namespace trireme
