#include "app/schema_lists.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "app/config_problems.h"
#include "app/schema_values.h"
#include "data/token_source.h"

namespace trireme {

namespace {

constexpr const char* kSource = "{path: PREFIX, weight: 1}";
constexpr const char* kPhase = "{after_step: 1000, weights: [1, 2]}";
constexpr const char* kLink = "{axis: data, latency_ms: 0.1, bandwidth_mb_per_s: 100}";
constexpr const char* kFault = "{rank: 0, step: 1, action: nan-gradient, tensor: NAME}";

// A key that a map may have, and what takes its value.
struct Field {
    const char* name;
    bool is_required;
    std::function<std::string(const YamlNode&)> read;
};

// `example` is a map as it should be.
std::string read_fields(const YamlNode& node, const std::string& example,
                        const std::vector<Field>& fields) {
    const std::string expected = ", expected " + example;
    if (node.kind != YamlNode::Kind::map) return found(node) + expected;
    WordList names;
    for (const Field& field : fields) names.words.emplace_back(field.name);
    std::vector<bool> is_given(fields.size());
    for (size_t i = 0; i < node.keys.size(); ++i) {
        const std::string& key = node.keys[i].text;
        const auto name = std::find(names.words.begin(), names.words.end(), key);
        if (name == names.words.end()) {
            return "found the unknown key '" + shown(key) + "', expected " + names.to_string() +
                   did_you_mean(nearest_word(key, names.words));
        }
        const auto index = static_cast<size_t>(name - names.words.begin());
        const std::string problem = fields[index].read(node.items[i]);
        if (!problem.empty()) return key + ": " + problem;
        is_given[index] = true;
    }
    for (size_t i = 0; i < fields.size(); ++i) {
        if (fields[i].is_required && !is_given[i]) return "found no " + names.words[i] + expected;
    }
    return "";
}

// `example`: items as they should be. read_item(node, the items before, item) returns what is
// wrong.
template <typename Item, typename ReadItem>
std::string read_list(const YamlNode& node, const std::string& example, std::vector<Item>& to,
                      const ReadItem& read_item) {
    if (node.kind != YamlNode::Kind::list) {
        return found(node) + ", expected a list like [" + example + "]";
    }
    std::vector<Item> items;
    for (const YamlNode& item_node : node.items) {
        Item item{};
        const std::string problem = read_item(item_node, items, item);
        if (!problem.empty()) {
            return "item " + std::to_string(items.size() + 1) + " (line " +
                   std::to_string(item_node.line) + "): " + problem;
        }
        items.push_back(std::move(item));
    }
    to = std::move(items);
    return "";
}

constexpr std::array kLinkAxes = {MeshAxis::tensor, MeshAxis::context, MeshAxis::data,
                                  MeshAxis::pipeline};
constexpr std::array kFaultActions = {FaultAction::nan_gradient, FaultAction::flip_bit};

const char* name_of(FaultAction action) {
    return action == FaultAction::nan_gradient ? "nan-gradient" : "flip-bit";
}

// One of `values`, by its name_of.
template <typename Enum, size_t n>
std::string read_enum(const YamlNode& node, const std::array<Enum, n>& values, Enum& to) {
    WordList names;
    for (const Enum value : values) names.words.emplace_back(name_of(value));
    size_t index = 0;
    std::string problem = read_word(node, names, index);
    if (problem.empty()) to = values[index];
    return problem;
}

// A map, or the path alone.
std::string read_source(const YamlNode& node, const std::vector<DataSourceOptions>& /*before*/,
                        DataSourceOptions& to) {
    if (node.kind == YamlNode::Kind::scalar) return read_text(node, to.path);
    const auto path = [&](const YamlNode& value) { return read_text(value, to.path); };
    const auto weight = [&](const YamlNode& value) {
        return read_number(value, {.least = 0.0, .above_least = true}, to.weight);
    };
    const auto format = [&](const YamlNode& value) {
        return read_enum(value, kDataFormats, to.format);
    };
    const auto name = [&](const YamlNode& value) { return read_text(value, to.name); };
    return read_fields(node, kSource,
                       {{"path", true, path},
                        {"weight", false, weight},
                        {"format", false, format},
                        {"name", false, name}});
}

std::string read_weights(const YamlNode& node, std::vector<double>& to) {
    const auto read_weight = [](const YamlNode& item, const auto& /*before*/, double& weight) {
        return read_number(item, {.least = 0.0}, weight);
    };
    const std::string problem = read_list(node, "1, 2", to, read_weight);
    if (!problem.empty()) return problem;
    double sum = 0.0;
    for (const double weight : to) sum += weight;
    return sum > 0.0 && std::isfinite(sum) ? "" : "expected one above 0 and a finite sum";
}

std::string read_phase(const YamlNode& node, const std::vector<DataPhaseOptions>& before,
                       DataPhaseOptions& to) {
    const auto after_step = [&](const YamlNode& value) {
        return read_whole(value, {0}, to.after_step);
    };
    const auto weights = [&](const YamlNode& value) { return read_weights(value, to.weights); };
    const std::string problem =
        read_fields(node, kPhase, {{"after_step", true, after_step}, {"weights", true, weights}});
    if (!problem.empty() || before.empty() || to.after_step > before.back().after_step) {
        return problem;
    }
    return "after_step: found " + std::to_string(to.after_step) + ", expected more than " +
           std::to_string(before.back().after_step) + " of the phase before";
}

std::string read_link(const YamlNode& node, const std::vector<LinkOptions>& before,
                      LinkOptions& to) {
    const auto axis = [&](const YamlNode& value) { return read_enum(value, kLinkAxes, to.axis); };
    const auto latency = [&](const YamlNode& value) {
        return read_number(value, {.least = 0.0, .most = 1.0e5}, to.latency_ms);
    };
    const auto bandwidth = [&](const YamlNode& value) {
        return read_number(value, {.least = 0.0}, to.bandwidth_mb_per_s);
    };
    const std::string problem = read_fields(node, kLink,
                                            {{"axis", true, axis},
                                             {"latency_ms", false, latency},
                                             {"bandwidth_mb_per_s", false, bandwidth}});
    if (!problem.empty()) return problem;
    for (const LinkOptions& other : before) {
        if (other.axis == to.axis) {
            return std::string("found axis ") + name_of(to.axis) +
                   " for the second time, expected each once";
        }
    }
    return "";
}

std::string read_fault(const YamlNode& node, const std::vector<FaultOptions>& /*before*/,
                       FaultOptions& to) {
    const auto rank = [&](const YamlNode& value) {
        int64_t whole = 0;
        std::string problem = read_whole(value, {0, std::numeric_limits<int>::max()}, whole);
        if (problem.empty()) to.rank = static_cast<int>(whole);
        return problem;
    };
    const auto step = [&](const YamlNode& value) { return read_whole(value, {1}, to.step); };
    const auto action = [&](const YamlNode& value) {
        return read_enum(value, kFaultActions, to.action);
    };
    const auto tensor = [&](const YamlNode& value) { return read_text(value, to.tensor); };
    return read_fields(node, kFault,
                       {{"rank", false, rank},
                        {"step", true, step},
                        {"action", false, action},
                        {"tensor", true, tensor}});
}

}  // namespace

std::string read_sources(const YamlNode& node, std::vector<DataSourceOptions>& to) {
    return read_list(node, kSource, to, read_source);
}

std::string read_phases(const YamlNode& node, std::vector<DataPhaseOptions>& to) {
    return read_list(node, kPhase, to, read_phase);
}

std::string read_links(const YamlNode& node, std::vector<LinkOptions>& to) {
    return read_list(node, kLink, to, read_link);
}

std::string read_faults(const YamlNode& node, std::vector<FaultOptions>& to) {
    return read_list(node, kFault, to, read_fault);
}

std::string sources_text(const std::vector<DataSourceOptions>& sources) {
    std::string text;
    for (const DataSourceOptions& source : sources) {
        text += (text.empty() ? "" : ", ") + std::string("{path: ") + yaml_text(source.path) +
                ", weight: " + number_text(source.weight);
        if (source.format != DataFormat::automatic) {
            text += ", format: " + std::string(name_of(source.format));
        }
        if (!source.name.empty()) text += ", name: " + yaml_text(source.name);
        text += "}";
    }
    return "[" + text + "]";
}

std::string phases_text(const std::vector<DataPhaseOptions>& phases) {
    std::string text;
    for (const DataPhaseOptions& phase : phases) {
        std::string weights;
        for (const double weight : phase.weights) {
            weights += (weights.empty() ? "" : ", ") + number_text(weight);
        }
        text += (text.empty() ? "" : ", ") + std::string("{after_step: ") +
                std::to_string(phase.after_step) + ", weights: [" + weights + "]}";
    }
    return "[" + text + "]";
}

std::string links_text(const std::vector<LinkOptions>& links) {
    std::string text;
    for (const LinkOptions& link : links) {
        text += (text.empty() ? "" : ", ") + std::string("{axis: ") + name_of(link.axis) +
                ", latency_ms: " + number_text(link.latency_ms) +
                ", bandwidth_mb_per_s: " + number_text(link.bandwidth_mb_per_s) + "}";
    }
    return "[" + text + "]";
}

std::string faults_text(const std::vector<FaultOptions>& faults) {
    std::string text;
    for (const FaultOptions& fault : faults) {
        text += (text.empty() ? "" : ", ") + std::string("{rank: ") + std::to_string(fault.rank) +
                ", step: " + std::to_string(fault.step) + ", action: " + name_of(fault.action) +
                ", tensor: " + yaml_text(fault.tensor) + "}";
    }
    return "[" + text + "]";
}

}  // namespace trireme
