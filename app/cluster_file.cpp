#include "app/cluster_file.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "app/config_problems.h"
#include "app/schema_values.h"
#include "app/yaml_tree.h"
#include "core/format_number.h"

namespace trireme {

namespace {

constexpr double kGiga = 1e9, kTera = 1e12, kMicro = 1e-6;
constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;

// One key of the file: a dotted path and where its value goes.
struct Row {
    std::string key;
    bool is_required = true;
    std::function<std::string(const YamlNode&)> read;
};

// A number above 0 in a unit.
Row rate(std::string key, double unit, double& to) {
    return {.key = std::move(key), .read = [unit, &to](const YamlNode& node) {
                double value = 0.0;
                std::string problem =
                    read_number(node, {.least = 0.0, .most = 1e9, .above_least = true}, value);
                if (problem.empty()) to = value * unit;
                return problem;
            }};
}

Row seconds(std::string key, double& to) {
    return {.key = std::move(key), .read = [&to](const YamlNode& node) {
                double value = 0.0;
                std::string problem = read_number(node, {.least = 0.0, .most = 1e9}, value);
                if (problem.empty()) to = value * kMicro;
                return problem;
            }};
}

Row count(std::string key, int64_t most, int& to) {
    return {.key = std::move(key), .read = [most, &to](const YamlNode& node) {
                int64_t value = 0;
                std::string problem = read_whole(node, {.least = 1, .most = most}, value);
                if (problem.empty()) to = static_cast<int>(value);
                return problem;
            }};
}

Row backend(std::string key, Backend& to) {
    return {
        .key = std::move(key), .read = [&to](const YamlNode& node) {
            size_t index = 0;
            std::string problem = read_word(node, {.words = {"cpu", "cuda"}}, index);
            if (problem.empty()) to = index == 0 ? Backend::cpu : Backend::cuda;
            return problem;
        }};
}

Row optional(Row row, bool is_optional = true) {
    row.is_required = !is_optional;
    return row;
}

class ClusterParser {
public:
    ClusterParser(std::string source, DType compute) : compute_(compute) {
        cluster_.source = std::move(source);
    }

    Cluster parse(const std::string& text) {
        make_rows();
        std::vector<YamlProblem> found_problems;
        const YamlNode root = parse_yaml(text, found_problems);
        for (const YamlProblem& problem : found_problems) {
            problems_.add(at(problem.line), problem.key, problem.text);
        }
        if (root.kind == YamlNode::Kind::map) {
            collect("", root);
            require();
        } else if (root.kind != YamlNode::Kind::refused) {
            problems_.add(at(root.line), "", found(root) + ", expected lines like `nodes: 4`");
        }
        problems_.throw_if_any();
        if (cluster_.peak_f32 == 0.0) cluster_.peak_f32 = cluster_.device.f32.matmul;
        if (cluster_.peak_bf16 == 0.0) cluster_.peak_bf16 = cluster_.device.bf16.matmul;
        cluster_.memory_bytes = static_cast<uint64_t>(memory_);
        return std::move(cluster_);
    }

private:
    void make_rows() {
        DeviceSpeed& device = cluster_.device;
        const bool is_bf16 = compute_ == DType::bf16;
        rows_ = {
            count("nodes", 1'000'000, cluster_.nodes),
            count("devices_per_node", 1024, cluster_.links.devices_per_node),
            backend("device.backend", cluster_.backend),
            rate("device.memory_gib", kGibibyte, memory_),
            rate("device.memory_gb_per_s", kGiga, device.memory_bytes_per_second),
            optional(seconds("device.operation_us", device.operation_seconds)),
            optional(rate("device.matmul_tflops.fp32", kTera, device.f32.matmul), is_bf16),
            optional(rate("device.matmul_tflops.bf16", kTera, device.bf16.matmul), !is_bf16),
            optional(rate("device.attention_tflops.fp32", kTera, device.f32.attention), is_bf16),
            optional(rate("device.attention_tflops.bf16", kTera, device.bf16.attention), !is_bf16),
            optional(rate("device.peak_tflops.fp32", kTera, cluster_.peak_f32)),
            optional(rate("device.peak_tflops.bf16", kTera, cluster_.peak_bf16)),
            rate("node_link.gb_per_s", kGiga, cluster_.links.node.bytes_per_second),
            optional(seconds("node_link.latency_us", cluster_.links.node.latency_seconds)),
            rate("network.gb_per_s", kGiga, cluster_.links.network.bytes_per_second),
            optional(seconds("network.latency_us", cluster_.links.network.latency_seconds))};
    }

    ConfigPlace at(int line) const { return place_in(cluster_.source, line); }

    bool is_section(const std::string& path) const {
        return std::any_of(rows_.begin(), rows_.end(),
                           [&](const Row& row) { return row.key.starts_with(path + "."); });
    }

    void collect(const std::string& section, const YamlNode& map) {
        for (size_t i = 0; i < map.keys.size(); ++i) {
            const std::string path =
                section.empty() ? map.keys[i].text : section + "." + map.keys[i].text;
            const YamlNode& value = map.items[i];
            const auto row = std::find_if(rows_.begin(), rows_.end(),
                                          [&](const Row& one) { return one.key == path; });
            given_.push_back(path);
            if (row != rows_.end()) {
                if (value.kind == YamlNode::Kind::refused) continue;
                const std::string problem = row->read(value);
                if (!problem.empty()) problems_.add(at(value.line), path, problem);
            } else if (!is_section(path)) {
                problems_.add(at(map.keys[i].line), path, unknown(path));
            } else if (value.kind == YamlNode::Kind::map) {
                collect(path, value);
            } else if (value.kind != YamlNode::Kind::refused) {
                problems_.add(at(value.line), path,
                              found(value) + ", expected key: value lines below it");
            }
        }
    }

    std::string unknown(const std::string& path) const {
        std::vector<std::string> keys;
        for (const Row& row : rows_) keys.push_back(row.key);
        return "found an unknown key, expected one that docs/planning.md lists" +
               did_you_mean(nearest_word(path, keys));
    }

    // The links that no rank of such a cluster uses need no speed.
    void require() {
        for (const Row& row : rows_) {
            const bool is_unused =
                (row.key.starts_with("node_link.") && cluster_.links.devices_per_node == 1) ||
                (row.key.starts_with("network.") && cluster_.nodes == 1);
            const bool is_given = std::find(given_.begin(), given_.end(), row.key) != given_.end();
            if (!row.is_required || is_given || is_unused) continue;
            problems_.add({cluster_.source, 0}, row.key,
                          "found nothing, expected a value, because there is no default");
        }
    }

    const DType compute_;
    Cluster cluster_;
    double memory_ = 0.0;
    std::vector<Row> rows_;
    std::vector<std::string> given_;
    ConfigProblems problems_;
};

}  // namespace

Cluster load_cluster(const std::string& path, DType compute) {
    return parse_cluster(read_config_file(path), path, compute);
}

std::string dump_cluster(const Cluster& cluster) {
    const auto in = [](double value, double unit) { return format_number("%.4g", value / unit); };
    const auto rates = [&](double f32, double bf16) {
        std::string text;
        if (f32 > 0.0) text += "fp32: " + in(f32, kTera);
        if (bf16 > 0.0) text += (text.empty() ? "bf16: " : ", bf16: ") + in(bf16, kTera);
        return "{" + text + "}\n";
    };
    const auto link = [&](const std::string& name, const LinkSpeed& speed) {
        if (speed.bytes_per_second == 0.0) return std::string();
        return name + ": {gb_per_s: " + in(speed.bytes_per_second, kGiga) +
               ", latency_us: " + in(speed.latency_seconds, kMicro) + "}\n";
    };
    const DeviceSpeed& device = cluster.device;
    std::string text = "nodes: " + std::to_string(cluster.nodes) + "\n";
    text += "devices_per_node: " + std::to_string(cluster.links.devices_per_node) + "\ndevice:\n";
    text += std::string("  backend: ") + (cluster.backend == Backend::cuda ? "cuda\n" : "cpu\n");
    text += "  memory_gib: " + in(static_cast<double>(cluster.memory_bytes), kGibibyte) + "\n";
    text += "  memory_gb_per_s: " + in(device.memory_bytes_per_second, kGiga) + "\n";
    text += "  operation_us: " + in(device.operation_seconds, kMicro) + "\n";
    text += "  matmul_tflops: " + rates(device.f32.matmul, device.bf16.matmul);
    text += "  attention_tflops: " + rates(device.f32.attention, device.bf16.attention);
    if (cluster.peak_f32 > 0.0 || cluster.peak_bf16 > 0.0) {
        text += "  peak_tflops: " + rates(cluster.peak_f32, cluster.peak_bf16);
    }
    return text + link("node_link", cluster.links.node) + link("network", cluster.links.network);
}

Cluster parse_cluster(const std::string& text, const std::string& source, DType compute) {
    return ClusterParser(source, compute).parse(text);
}

}  // namespace trireme
