#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "app/schema.h"
#include "app/schema_lists.h"
#include "app/schema_values.h"

// Makers of schema rows, one for each type of value.

namespace trireme {

// Wide enough for any model, small enough that products of a few sizes stay far from overflow.
inline constexpr int64_t kMostSize = 10'000'000;
inline constexpr int64_t kMostRanks = 65536;
inline constexpr int64_t kMostSteps = 1'000'000'000'000;

// `at` is a generic lambda from a configuration, const or not, to the member.
template <typename At>
SchemaRow whole(std::string key, WholeRange range, std::string description, At at) {
    using Value = std::remove_reference_t<decltype(at(std::declval<Config&>()))>;
    SchemaRow row{.key = std::move(key),
                  .type = "whole number",
                  .allowed = range.to_string(),
                  .description = std::move(description)};
    row.read = [=](const YamlNode& node, Config& config) {
        int64_t value = 0;
        std::string problem = read_whole(node, range, value);
        if (problem.empty()) at(config) = static_cast<Value>(value);
        return problem;
    };
    row.write = [=](const Config& config) { return std::to_string(at(config)); };
    return row;
}

// A whole number from 1 on, or auto, which is kept as 0.
template <typename At>
SchemaRow whole_or_auto(const std::string& key, int64_t most, const std::string& description,
                        At at) {
    SchemaRow row{.key = key,
                  .type = "whole number or auto",
                  .allowed = "auto, 1 to " + std::to_string(most),
                  .description = description};
    row.read = [=](const YamlNode& node, Config& config) -> std::string {
        if (node.kind == YamlNode::Kind::scalar && node.text == "auto") {
            at(config) = 0;
            return "";
        }
        int64_t value = 0;
        const std::string problem = read_whole(node, {1, most}, value);
        if (!problem.empty()) return problem + ", or auto";
        at(config) = static_cast<int>(value);
        return "";
    };
    row.write = [=](const Config& config) {
        return at(config) == 0 ? "auto" : std::to_string(at(config));
    };
    return row;
}

template <typename At>
SchemaRow number(std::string key, NumberRange range, std::string description, At at) {
    SchemaRow row{.key = std::move(key),
                  .type = "number",
                  .allowed = range.to_string(),
                  .description = std::move(description)};
    row.read = [=](const YamlNode& node, Config& config) {
        return read_number(node, range, at(config));
    };
    row.write = [=](const Config& config) { return number_text(at(config)); };
    return row;
}

template <typename At>
SchemaRow boolean(std::string key, std::string description, At at) {
    SchemaRow row{
        .key = std::move(key), .type = "true or false", .description = std::move(description)};
    row.read = [=](const YamlNode& node, Config& config) { return read_bool(node, at(config)); };
    row.write = [=](const Config& config) { return at(config) ? "true" : "false"; };
    return row;
}

template <typename At>
SchemaRow text(std::string key, std::string allowed, std::string description, At at) {
    SchemaRow row{.key = std::move(key),
                  .type = "text",
                  .allowed = std::move(allowed),
                  .description = std::move(description)};
    row.read = [=](const YamlNode& node, Config& config) { return read_text(node, at(config)); };
    row.write = [=](const Config& config) { return yaml_text(at(config)); };
    return row;
}

// `values` belongs to the built words of the list, one each.
template <typename Value, typename At>
SchemaRow word(std::string key, WordList list, std::vector<Value> values, std::string description,
               At at) {
    SchemaRow row{.key = std::move(key),
                  .type = "one word",
                  .allowed = list.to_string(),
                  .description = std::move(description)};
    row.read = [=](const YamlNode& node, Config& config) {
        size_t index = 0;
        std::string problem = read_word(node, list, index);
        if (problem.empty()) at(config) = values[index];
        return problem;
    };
    row.write = [=](const Config& config) {
        const auto place = std::find(values.begin(), values.end(), at(config));
        return place == values.end() ? std::string() : list.words[place - values.begin()];
    };
    return row;
}

template <typename At>
SchemaRow word(std::string key, WordList list, std::string description, At at) {
    std::vector<std::string> values = list.words;
    return word(std::move(key), std::move(list), std::move(values), std::move(description), at);
}

template <typename At>
SchemaRow sources(std::string key, std::string description, At at) {
    SchemaRow row{.key = std::move(key),
                  .type = "list of {path, weight, format, name}",
                  .allowed = "weight above 0; format auto, megatron, nanogpt or llmc",
                  .description = std::move(description)};
    row.read = [=](const YamlNode& node, Config& config) { return read_sources(node, at(config)); };
    row.write = [=](const Config& config) { return sources_text(at(config)); };
    return row;
}

inline SchemaRow required(SchemaRow row) {
    row.is_required = true;
    row.default_text = "required";
    return row;
}

inline SchemaRow defaults_to(std::string text, SchemaRow row) {
    row.default_text = std::move(text);
    return row;
}

}  // namespace trireme
