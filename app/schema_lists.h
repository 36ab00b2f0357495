#pragma once

#include <string>
#include <vector>

#include "app/config.h"
#include "app/yaml_tree.h"

namespace trireme {

// Values that are lists of maps, read as single values are (see schema_values.h) and written so
// that they read back to the same.

std::string read_sources(const YamlNode& node, std::vector<DataSourceOptions>& to);
std::string read_phases(const YamlNode& node, std::vector<DataPhaseOptions>& to);
std::string read_links(const YamlNode& node, std::vector<LinkOptions>& to);
std::string read_faults(const YamlNode& node, std::vector<FaultOptions>& to);

std::string sources_text(const std::vector<DataSourceOptions>& sources);
std::string phases_text(const std::vector<DataPhaseOptions>& phases);
std::string links_text(const std::vector<LinkOptions>& links);
std::string faults_text(const std::vector<FaultOptions>& faults);

}  // namespace trireme
