#include "app/schema_lists.h"

#include <cmath>
#include <limits>

#include "app/config_problems.h"
#include "app/schema_values.h"

namespace trireme {

namespace {

constexpr DataFormat kDataFormats[] = {DataFormat::automatic, DataFormat::megatron,
                                       DataFormat::nanogpt, DataFormat::llmc};

const WordList& data_format_words() {
    static const WordList words{.words = {"auto", "megatron", "nanogpt", "llmc"}, .unbuilt = {}};
    return words;
}

// One item of a list of sources: {path: ..., weight: ..., ...}, or the path alone.
std::string read_source(const YamlNode& node, DataSourceOptions& to) {
    if (node.kind == YamlNode::Kind::scalar) return read_text(node, to.path);
    if (node.kind != YamlNode::Kind::map) {
        return found(node) + ", expected {path: PREFIX, weight: W}";
    }
    bool has_path = false;
    for (size_t i = 0; i < node.keys.size(); ++i) {
        const std::string& key = node.keys[i].text;
        std::string problem;
        if (key == "path") {
            has_path = true;
            problem = read_text(node.items[i], to.path);
        } else if (key == "weight") {
            problem = read_number(node.items[i], {.least = 0.0, .above_least = true}, to.weight);
        } else if (key == "format") {
            size_t index = 0;
            problem = read_word(node.items[i], data_format_words(), index);
            if (problem.empty()) to.format = kDataFormats[index];
        } else if (key == "name") {
            problem = read_text(node.items[i], to.name);
        } else {
            return "found the unknown key '" + shown(key) +
                   "', expected path, weight, format or name" +
                   did_you_mean(nearest_word(key, {"path", "weight", "format", "name"}));
        }
        if (!problem.empty()) return key + ": " + problem;
    }
    return has_path ? "" : "found no path, expected {path: PREFIX, weight: W}";
}

// One item of a list of phases: {after_step: ..., weights: [...]}.
std::string read_phase(const YamlNode& node, DataPhaseOptions& to) {
    const std::string expected = "expected {after_step: 1000, weights: [1, 2]}";
    if (node.kind != YamlNode::Kind::map) return found(node) + ", " + expected;
    bool has_step = false;
    for (size_t i = 0; i < node.keys.size(); ++i) {
        const std::string& key = node.keys[i].text;
        const YamlNode& value = node.items[i];
        std::string problem;
        if (key == "after_step") {
            has_step = true;
            problem = read_whole(value, {0}, to.after_step);
        } else if (key == "weights") {
            if (value.kind != YamlNode::Kind::list) {
                return "weights: " + found(value) + ", expected a list like [1, 2]";
            }
            for (const YamlNode& item : value.items) {
                problem = read_number(item, {.least = 0.0}, to.weights.emplace_back());
                if (!problem.empty()) break;
            }
        } else {
            return "found the unknown key '" + shown(key) + "', " + expected +
                   did_you_mean(nearest_word(key, {"after_step", "weights"}));
        }
        if (!problem.empty()) return key + ": " + problem;
    }
    if (!has_step) return "found no after_step, " + expected;
    double sum = 0.0;
    for (const double weight : to.weights) sum += weight;
    return sum > 0.0 && std::isfinite(sum) ? "" : "weights: expected one above 0 and a finite sum";
}

// One item of a list of links: {axis: ..., latency_ms: ..., bandwidth_mb_per_s: ...}.
std::string read_link(const YamlNode& node, LinkOptions& to) {
    const WordList axes{.words = {"tensor", "context", "data", "pipeline"}, .unbuilt = {}};
    constexpr MeshAxis kAxes[] = {MeshAxis::tensor, MeshAxis::context, MeshAxis::data,
                                  MeshAxis::pipeline};
    const std::string expected = "expected {axis: data, latency_ms: 0.1, bandwidth_mb_per_s: 100}";
    if (node.kind != YamlNode::Kind::map) return found(node) + ", " + expected;
    bool has_axis = false;
    for (size_t i = 0; i < node.keys.size(); ++i) {
        const std::string& key = node.keys[i].text;
        std::string problem;
        if (key == "axis") {
            size_t index = 0;
            problem = read_word(node.items[i], axes, index);
            if (problem.empty()) to.axis = kAxes[index];
            has_axis = true;
        } else if (key == "latency_ms") {
            problem = read_number(node.items[i], {.least = 0.0, .most = 1.0e5}, to.latency_ms);
        } else if (key == "bandwidth_mb_per_s") {
            problem = read_number(node.items[i], {.least = 0.0}, to.bandwidth_mb_per_s);
        } else {
            return "found the unknown key '" + shown(key) + "', " + expected +
                   did_you_mean(nearest_word(key, {"axis", "latency_ms", "bandwidth_mb_per_s"}));
        }
        if (!problem.empty()) return key + ": " + problem;
    }
    return has_axis ? "" : "found no axis, " + expected;
}

constexpr FaultAction kFaultActions[] = {FaultAction::nan_gradient, FaultAction::flip_bit};

const WordList& fault_words() {
    static const WordList words{.words = {"nan-gradient", "flip-bit"}, .unbuilt = {}};
    return words;
}

// One item of a list of faults.
std::string read_fault(const YamlNode& node, FaultOptions& to) {
    const std::string expected = "expected {rank: 0, step: 1, action: nan-gradient, tensor: NAME}";
    if (node.kind != YamlNode::Kind::map) return found(node) + ", " + expected;
    for (size_t i = 0; i < node.keys.size(); ++i) {
        const std::string& key = node.keys[i].text;
        const YamlNode& value = node.items[i];
        std::string problem;
        int64_t whole = 0;
        size_t index = 0;
        if (key == "rank") {
            problem = read_whole(value, {0, std::numeric_limits<int>::max()}, whole);
            to.rank = static_cast<int>(whole);
        } else if (key == "step") {
            problem = read_whole(value, {1}, to.step);
        } else if (key == "action") {
            problem = read_word(value, fault_words(), index);
            to.action = kFaultActions[index];
        } else if (key == "tensor") {
            problem = read_text(value, to.tensor);
        } else {
            return "found the unknown key '" + shown(key) + "', " + expected;
        }
        if (!problem.empty()) return key + ": " + problem;
    }
    if (to.step < 1 || to.tensor.empty()) return "found no step or no tensor, " + expected;
    return "";
}

}  // namespace

std::string read_sources(const YamlNode& node, std::vector<DataSourceOptions>& to) {
    if (node.kind != YamlNode::Kind::list) {
        return found(node) + ", expected a list like [{path: PREFIX, weight: 1}]";
    }
    std::vector<DataSourceOptions> sources;
    for (size_t i = 0; i < node.items.size(); ++i) {
        DataSourceOptions source;
        const std::string problem = read_source(node.items[i], source);
        if (!problem.empty()) {
            return "item " + std::to_string(i + 1) + " (line " +
                   std::to_string(node.items[i].line) + "): " + problem;
        }
        sources.push_back(std::move(source));
    }
    to = std::move(sources);
    return "";
}

std::string read_phases(const YamlNode& node, std::vector<DataPhaseOptions>& to) {
    if (node.kind != YamlNode::Kind::list) {
        return found(node) + ", expected a list like [{after_step: 1000, weights: [1, 2]}]";
    }
    std::vector<DataPhaseOptions> phases(node.items.size());
    for (size_t i = 0; i < phases.size(); ++i) {
        std::string problem = read_phase(node.items[i], phases[i]);
        if (problem.empty() && i > 0 && phases[i].after_step <= phases[i - 1].after_step) {
            problem = "after_step: found " + std::to_string(phases[i].after_step) +
                      ", expected more than " + std::to_string(phases[i - 1].after_step) +
                      " of the phase before";
        }
        if (!problem.empty()) {
            return "item " + std::to_string(i + 1) + " (line " +
                   std::to_string(node.items[i].line) + "): " + problem;
        }
    }
    to = std::move(phases);
    return "";
}

std::string read_links(const YamlNode& node, std::vector<LinkOptions>& to) {
    if (node.kind != YamlNode::Kind::list) {
        return found(node) + ", expected a list like [{axis: data, bandwidth_mb_per_s: 100}]";
    }
    std::vector<LinkOptions> links;
    for (size_t i = 0; i < node.items.size(); ++i) {
        LinkOptions link;
        std::string problem = read_link(node.items[i], link);
        for (const LinkOptions& other : links) {
            if (problem.empty() && other.axis == link.axis) {
                problem = std::string("found axis ") + name_of(link.axis) +
                          " for the second time, expected each once";
            }
        }
        if (!problem.empty()) {
            return "item " + std::to_string(i + 1) + " (line " +
                   std::to_string(node.items[i].line) + "): " + problem;
        }
        links.push_back(link);
    }
    to = std::move(links);
    return "";
}

std::string read_faults(const YamlNode& node, std::vector<FaultOptions>& to) {
    if (node.kind != YamlNode::Kind::list) return found(node) + ", expected a list";
    std::vector<FaultOptions> faults(node.items.size());
    for (size_t i = 0; i < node.items.size(); ++i) {
        const std::string problem = read_fault(node.items[i], faults[i]);
        if (!problem.empty()) {
            return "item " + std::to_string(i + 1) + " (line " +
                   std::to_string(node.items[i].line) + "): " + problem;
        }
    }
    to = std::move(faults);
    return "";
}

std::string sources_text(const std::vector<DataSourceOptions>& sources) {
    std::string text;
    for (const DataSourceOptions& source : sources) {
        text += (text.empty() ? "" : ", ") + std::string("{path: ") + yaml_text(source.path) +
                ", weight: " + number_text(source.weight);
        if (source.format != DataFormat::automatic) {
            text += ", format: " + data_format_words().words[static_cast<size_t>(source.format)];
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
                ", step: " + std::to_string(fault.step) +
                ", action: " + fault_words().words[static_cast<size_t>(fault.action)] +
                ", tensor: " + yaml_text(fault.tensor) + "}";
    }
    return "[" + text + "]";
}

}  // namespace trireme
