#include "tests/app/metrics_records.h"

#include <sstream>

#include "tests/app/process_support.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

std::vector<nlohmann::json> records_with(const std::string& path, const std::string& key) {
    std::istringstream lines(read_text(path));
    std::vector<nlohmann::json> records;
    for (std::string line; std::getline(lines, line);) {
        nlohmann::json record = nlohmann::json::parse(line);
        if (record.contains(key)) records.push_back(std::move(record));
    }
    return records;
}

}  // namespace trireme::test
