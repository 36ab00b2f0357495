#include "app/rank_agreement.h"

#include <functional>
#include <nlohmann/json.hpp>

#include "app/schema.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/host_name.h"
#include "data/fingerprint.h"
#include "parallel/checkpoint_load.h"
#include "parallel/control_group.h"

namespace trireme {

namespace {

// find() returns what this rank finds, one text for each of the names.
void check_same_fingerprints(World& world, const std::vector<std::string>& names,
                             const std::function<std::vector<std::string>()>& find) {
    if (world.size() == 1) return;
    ControlGroup control(world, "agreement");
    std::vector<std::string> own;
    control.run("while comparing files", [&] { own = find(); });
    const auto first = nlohmann::json::parse(control.broadcast(nlohmann::json(own).dump()))
                           .get<std::vector<std::string>>();
    control.run("while comparing files", [&] {
        TRIREME_CHECK(own.size() == first.size(), "as many files on all ranks");
        for (size_t i = 0; i < own.size(); ++i) {
            if (own[i] == first[i]) continue;
            throw Error(ExitCode::bad_data,
                        names[i] + ": found (" + own[i] + ") on rank " +
                            std::to_string(world.rank()) + " on " + own_host_name() +
                            ", expected (" + first[i] +
                            ") as on rank 0; give all nodes the same files, or use a folder that "
                            "all of them see");
        }
    });
}

}  // namespace

void check_same_config(World& world, const Config& config) {
    ControlGroup control(world, "agreement");
    const std::string own = dump_config(config);
    const std::string first = control.broadcast(own);
    control.run("while comparing configurations", [&] {
        if (own == first) return;
        const Config of_rank_0 = parse_config(first, "the configuration of rank 0");
        for (const SchemaRow& row : config_schema()) {
            const std::string found = row.write(config), expected = row.write(of_rank_0);
            if (found == expected || row.key == "device.threads") continue;
            throw Error(ExitCode::config, row.key + ": found " + found + " on rank " +
                                              std::to_string(world.rank()) + ", expected " +
                                              expected +
                                              " as on rank 0; start all processes with the same "
                                              "configuration, from a file that all nodes see");
        }
    });
}

void check_same_data(World& world, std::span<const DataSourceOptions> sources) {
    std::vector<std::string> names;
    for (const DataSourceOptions& source : sources) names.push_back("dataset " + source.path);
    check_same_fingerprints(world, names, [&] { return dataset_fingerprints(sources); });
}

void check_same_tokens(World& world, const std::string& name, std::span<const int32_t> tokens) {
    check_same_fingerprints(world, {name}, [&] {
        const uint32_t crc = crc32c(tokens.data(), tokens.size_bytes());
        return std::vector{std::to_string(tokens.size()) + " tokens, crc " + crc_text(crc)};
    });
}

std::vector<std::string> agreed_checkpoints(World& world, const std::string& path, Log& log) {
    ControlGroup control(world, "agreement");
    std::vector<std::string> folders;
    control.run("while looking for the checkpoint", [&] {
        if (world.rank() != 0) return;
        std::vector<std::string> skipped;
        folders = usable_checkpoints_at(path, skipped);
        for (const std::string& reason : skipped) log.warn("skipped a checkpoint: " + reason);
    });
    folders.resize(std::stoul(control.broadcast(std::to_string(folders.size()))));
    for (std::string& folder : folders) folder = control.broadcast(folder);
    return folders;
}

}  // namespace trireme
