#pragma once

#include <functional>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/resume_class.h"
#include "app/yaml_tree.h"

namespace trireme {

// One key of the configuration: how it is documented, read, checked and written.
struct SchemaRow {
    std::string key = {};           // dotted path, "model.layers"
    std::string type = {};          // "whole number", "text", ...
    std::string allowed = {};       // "1 or more", "gpt2, llama"; empty when anything goes
    std::string description = {};   // one sentence
    std::string default_text = {};  // as documented; "required" when there is none
    bool is_required = false;
    ResumeClass on_resume = ResumeClass::trajectory;  // what a changed value means then

    // Checks the value and puts it into the configuration. Returns what is wrong with it, "found
    // ..., expected ...", and leaves the configuration as it was then; empty when all is well.
    std::function<std::string(const YamlNode&, Config&)> read = {};
    // The value as YAML on one line.
    std::function<std::string(const Config&)> write = {};

    std::string section() const;  // "model", or empty for a key at the top level
    std::string name() const;     // "layers"
};

// All keys, section by section, in the order in which they are written. The single source of
// parsing, checks, suggestions, `--set`, the resolved dump and docs/configuration.md. Made once.
const std::vector<SchemaRow>& config_schema();

// Names of the sections in order, without the top level.
std::vector<std::string> sections_of(const std::vector<SchemaRow>& schema);

// The row of a dotted path, or null.
const SchemaRow* find_row(const std::vector<SchemaRow>& schema, const std::string& key);

// "; did you mean 'x'?" for a key that the schema does not have, or empty. `section` is where the
// key stands, `name` its last part.
std::string suggest_key(const std::vector<SchemaRow>& schema, const std::string& section,
                        const std::string& name);

}  // namespace trireme
