#include "data/data_options.h"

#include <algorithm>

namespace trireme {

std::vector<std::string> names_of(const std::vector<DataSourceOptions>& sources) {
    const auto short_name = [](const DataSourceOptions& source) {
        if (!source.name.empty()) return source.name;
        return source.path.substr(source.path.find_last_of('/') + 1);
    };
    std::vector<std::string> names;
    for (const DataSourceOptions& source : sources) {
        const auto same = std::count_if(sources.begin(), sources.end(), [&](const auto& other) {
            return short_name(other) == short_name(source);
        });
        const bool is_clear = same == 1 || !source.name.empty();
        names.push_back(is_clear ? short_name(source) : source.path);
    }
    return names;
}

DatasetShare DataOptions::train_share() const {
    return split && split->train ? *split->train : DatasetShare{};
}

const std::vector<DataSourceOptions>& DataOptions::validation_sets() const {
    return split && split->valid ? train : valid;
}

DatasetShare DataOptions::validation_share() const {
    return split && split->valid ? *split->valid : DatasetShare{};
}

}  // namespace trireme
