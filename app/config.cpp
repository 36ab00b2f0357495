#include "app/config.h"

#include "app/config_problems.h"
#include "app/config_rules.h"
#include "app/presets.h"
#include "app/schema.h"
#include "app/yaml_tree.h"

namespace trireme {

namespace {

// A value that was given, and the key it is for.
struct Assignment {
    const SchemaRow* row = nullptr;
    YamlNode value;
    ConfigPlace place;
};

// Whether a plain value of a command line goes on in what YAML takes for a comment.
bool is_cut_by_comment(const std::string& text, const YamlNode& value) {
    if (value.kind != YamlNode::Kind::scalar || value.quoted) return false;
    return text.find(" #") != std::string::npos && value.text.find(" #") == std::string::npos;
}

// Turns a file and `--set` texts into a configuration, collecting all problems.
class ConfigParser {
public:
    explicit ConfigParser(std::string source) : source_(std::move(source)) {
        config_.source = source_;
    }

    Config parse(const std::string& text, const std::vector<std::string>& sets,
                 std::optional<int> world) {
        if (!collect_file(text)) problems_.throw_if_any();
        for (const std::string& set : sets) collect_set(set);
        apply_shape();
        for (const Assignment& assignment : assignments_) apply(assignment);
        if (!config_.is_given("model.tie_embeddings")) {
            config_.model.tie_embeddings = config_.model.family == Family::gpt2;
        }
        require_keys();
        fill_defaults(config_);
        check_rules(config_, problems_);
        if (world) check_world_rules(config_, *world, problems_);
        problems_.throw_if_any();
        return std::move(config_);
    }

private:
    ConfigPlace at_line(int line) const { return place_in(source_, line); }

    // False when nothing of the file can be used.
    bool collect_file(const std::string& text) {
        std::vector<YamlProblem> found_problems;
        const YamlNode root = parse_yaml(text, found_problems);
        for (const YamlProblem& problem : found_problems) {
            problems_.add(at_line(problem.line), problem.key, problem.text);
        }
        if (root.kind == YamlNode::Kind::refused) return false;
        if (root.kind == YamlNode::Kind::null) return true;
        if (root.kind != YamlNode::Kind::map) {
            problems_.add(at_line(root.line), "",
                          "found no sections, expected lines like "
                          "`model: {layers: 4, ...}`");
            return false;
        }
        for (size_t i = 0; i < root.keys.size(); ++i) collect_top(root.keys[i], root.items[i]);
        return true;
    }

    void collect_top(const YamlNode::Key& key, const YamlNode& value) {
        if (const SchemaRow* row = find_row(schema_, key.text); row && row->section().empty()) {
            assignments_.push_back({row, value, at_line(value.line)});
            return;
        }
        const size_t dot = key.text.find('.');
        if (dot != std::string::npos && (find_row(schema_, key.text) || is_section(key.text))) {
            problems_.add(at_line(key.line), key.text,
                          "found a dotted key outside its section, expected it inside; write `" +
                              key.text.substr(0, dot) + ": {" + key.text.substr(dot + 1) +
                              ": ...}` instead");
            return;
        }
        if (!is_section(key.text)) {
            problems_.add(at_line(key.line), key.text,
                          "found an unknown key, expected one of the sections" +
                              suggest_key(schema_, "", key.text));
            return;
        }
        collect_section(key.text, value);
    }

    // `path` is a section, or what several of its keys with dots begin with.
    void collect_section(const std::string& path, const YamlNode& value) {
        if (value.kind == YamlNode::Kind::null || value.kind == YamlNode::Kind::refused) return;
        if (value.kind != YamlNode::Kind::map) {
            problems_.add(at_line(value.line), path,
                          "found a single value or list, expected a section of key: value lines");
            return;
        }
        for (size_t i = 0; i < value.keys.size(); ++i) {
            collect_key(path + "." + value.keys[i].text, value.keys[i].line, value.items[i]);
        }
    }

    void collect_key(const std::string& path, int line, const YamlNode& value) {
        if (const SchemaRow* row = find_row(schema_, path)) {
            // `cost.forward: 1` and `cost: {forward: 1}` are the same key, but not to the reader
            // of YAML.
            for (const Assignment& other : assignments_) {
                if (other.row != row) continue;
                problems_.add(at_line(line), path,
                              "found a second time, expected once (first on line " +
                                  std::to_string(other.place.line) + ")");
                return;
            }
            assignments_.push_back({row, value, at_line(value.line)});
            return;
        }
        if (is_section(path)) {
            collect_section(path, value);
            return;
        }
        const size_t dot = path.find('.');
        problems_.add(at_line(line), path,
                      "found an unknown key, expected one that docs/configuration.md lists" +
                          suggest_key(schema_, path.substr(0, dot), path.substr(dot + 1)));
    }

    void collect_set(const std::string& set) {
        const ConfigPlace place{"--set " + shown(set), 0};
        const size_t equals = set.find('=');
        const std::string key = set.substr(0, equals);
        if (equals == std::string::npos || key.empty()) {
            problems_.add(place, "", "found no key=value, expected one like run.steps=100");
            return;
        }
        const SchemaRow* row = find_row(schema_, key);
        if (row == nullptr) {
            const size_t dot = key.find('.');
            const bool has_section = dot != std::string::npos && is_section(key.substr(0, dot));
            const std::string section = has_section ? key.substr(0, dot) : "";
            problems_.add(
                place, key,
                is_section(key)
                    ? "found a section, expected one key of it, like " + key + ".NAME"
                    : "found an unknown key, expected one that docs/configuration.md "
                      "lists" +
                          suggest_key(schema_, section, has_section ? key.substr(dot + 1) : key));
            return;
        }
        std::vector<YamlProblem> found_problems;
        YamlNode value = parse_yaml(set.substr(equals + 1), found_problems);
        for (const YamlProblem& problem : found_problems) {
            problems_.add(place, key, problem.text);
        }
        if (is_cut_by_comment(set.substr(equals + 1), value)) {
            problems_.add(place, key,
                          "found " + shown(value.text) +
                              " and a comment: YAML reads nothing behind ' #'; expected the value "
                              "in quotes");
        }
        value.line = 0;
        std::erase_if(assignments_, [&](const Assignment& other) { return other.row == row; });
        assignments_.push_back({row, std::move(value), place});
    }

    // Whether keys stand below it: "pipeline", "pipeline.cost".
    bool is_section(const std::string& path) const {
        for (const SchemaRow& row : schema_) {
            if (!path.empty() && row.key.starts_with(path + ".")) return true;
        }
        return false;
    }

    // A preset comes first, so that the keys beside it override it wherever they stand.
    void apply_shape() {
        for (const Assignment& assignment : assignments_) {
            if (assignment.row->key != "model.preset") continue;
            apply(assignment);
            apply_preset(config_.preset, config_.model);
            if (config_.preset == "none" && !problems_.has("model.preset")) continue;
            for (const std::string& name : preset_keys()) {
                config_.places["model." + name] = assignment.place;
            }
        }
        std::erase_if(assignments_, [](const Assignment& assignment) {
            return assignment.row->key == "model.preset";
        });
    }

    void apply(const Assignment& assignment) {
        const std::string& key = assignment.row->key;
        config_.places[key] = assignment.place;
        if (problems_.has(key) && assignment.value.kind == YamlNode::Kind::refused) return;
        const std::string problem = assignment.row->read(assignment.value, config_);
        if (!problem.empty()) problems_.add(assignment.place, key, problem);
    }

    void require_keys() {
        for (const SchemaRow& row : schema_) {
            if (!row.is_required || config_.is_given(row.key)) continue;
            const std::string allowed = row.allowed.empty() ? "" : ", " + row.allowed;
            problems_.add({source_, 0}, row.key,
                          "found nothing, expected a value (" + row.type + allowed +
                              "), because there is no default");
        }
    }

    std::string source_;
    const std::vector<SchemaRow>& schema_ = config_schema();
    std::vector<Assignment> assignments_;
    ConfigProblems problems_;
    Config config_;
};

}  // namespace

Config load_config(const std::string& path, const std::vector<std::string>& sets,
                   std::optional<int> world) {
    return parse_config(read_config_file(path), path, sets, world);
}

Config parse_config(const std::string& text, const std::string& source,
                    const std::vector<std::string>& sets, std::optional<int> world) {
    return ConfigParser(source).parse(text, sets, world);
}

void resolve(Config& config) {
    ConfigProblems problems;
    fill_defaults(config);
    check_rules(config, problems);
    problems.throw_if_any();
}

void check_world(Config& config, int world) {
    ConfigProblems problems;
    check_world_rules(config, world, problems);
    problems.throw_if_any();
}

std::string dump_config(const Config& config) {
    std::string text, section;
    for (const SchemaRow& row : config_schema()) {
        if (row.section() != section) {
            section = row.section();
            if (!section.empty()) text += section + ":\n";
        }
        text += (section.empty() ? "" : "  ") + row.name() + ": " + row.write(config) + "\n";
    }
    return text;
}

}  // namespace trireme
