#include <algorithm>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/build_info.h"
#include "app/commands.h"
#include "app/plan_report.h"
#include "app/progress_line.h"
#include "core/error.h"
#include "core/file_io.h"
#include "parallel/schedule_drawing.h"

namespace trireme {

namespace {

std::string title_of(const Config& config, const ScheduleProgram& program) {
    return config.pipeline.schedule + ", " + std::to_string(program.stages) + " stages, " +
           std::to_string(program.micro_batches) + " micro-batches";
}

void draw(const PlanArguments& arguments, const std::string& title, const Simulation& simulation) {
    if (!arguments.svg.empty()) {
        replace_file(arguments.svg,
                     draw_svg(spans_of(simulation), {.title = title, .time_unit = ""}));
    }
    if (!arguments.trace.empty()) {
        replace_file(arguments.trace, draw_chrome_trace(spans_of(simulation), 1000.0));
    }
}

void check_room(const Config& config, const Cluster& cluster) {
    const int ranks = config.mesh.ranks();
    if (ranks <= cluster.devices()) return;
    throw Error(ExitCode::config, cluster.source + ": found " + std::to_string(cluster.devices()) +
                                      " devices, expected " + std::to_string(ranks) +
                                      " for a mesh of " + config.mesh.to_string() +
                                      "; change nodes, or --world and the mesh");
}

// Loads the configuration with more `key=value` texts, as it is planned.
class PlannedConfigs {
public:
    explicit PlannedConfigs(const PlanArguments& arguments)
        : path_(arguments.config), sets_(arguments.sets), world_(arguments.world) {
        // A plan needs no GPU, nor a program that could use one.
        const std::vector<std::string> built = built_backends();
        if (std::find(built.begin(), built.end(), "cuda") == built.end()) {
            sets_.push_back("device.backend=cpu");
        }
    }

    DType compute_type() const { return load_config(path_, sets_).precision.compute; }

    // From now on for all its devices, unless told the number of processes.
    void use(const Cluster& cluster) {
        if (!world_) world_ = cluster.devices();
        backend_ = cluster.backend;
    }

    Config with(const std::vector<std::string>& more) const {
        std::vector<std::string> sets = sets_;
        sets.insert(sets.end(), more.begin(), more.end());
        Config config = load_config(path_, sets, world_);
        if (config.mesh.data == 0) {
            const MeshShape& mesh = config.mesh;
            check_world(config, mesh.tensor * mesh.context * mesh.pipeline);
        }
        if (backend_) config.device.backend = *backend_;
        return config;
    }

private:
    const std::string path_;
    std::vector<std::string> sets_;
    std::optional<int> world_;
    std::optional<Backend> backend_;
};

}  // namespace

int plan_command(const PlanArguments& arguments) {
    PlannedConfigs configs(arguments);
    PlanReport report;
    if (!arguments.cluster.empty()) {
        report.cluster = load_cluster(arguments.cluster, configs.compute_type());
        configs.use(*report.cluster);
    }
    report.config = configs.with({});
    const Config& config = report.config;
    if (report.cluster) check_room(config, *report.cluster);
    report.program = make_schedule(config.pipeline, config.mesh.pipeline, config.micro_batches());
    // The costs are those of a whole stage; its chunks share them.
    report.simulation =
        simulate(report.program, costs_of_chunk(config.pipeline.costs, report.program.chunks));
    const std::string title = title_of(config, report.program);
    draw(arguments, title, report.simulation);
    if (arguments.schedule_only) {
        if (arguments.json) {
            std::printf("%s\n", json_of(config, report.program, report.simulation).dump().c_str());
        } else {
            std::printf("%s\n\n%s\n%s", title.c_str(), draw_text(report.simulation).c_str(),
                        times_table(report.simulation).c_str());
        }
        return static_cast<int>(ExitCode::ok);
    }
    report.memory = plan_memory(config);
    report.changes = find_memory_changes(
        config, report.memory, [&](const std::string& set) { return configs.with({set}); });
    if (report.cluster) report.time = plan_time(config, *report.cluster);
    if (arguments.layouts) {
        ProgressLine progress("estimating layouts");
        report.layouts = find_layouts(
            config, *report.cluster,
            {.with = [&](const std::vector<std::string>& sets) { return configs.with(sets); },
             .on_progress = std::ref(progress)});
    }
    if (arguments.json) {
        std::printf("%s\n", json_of(report).dump().c_str());
    } else {
        print(report);
    }
    return static_cast<int>(ExitCode::ok);
}

}  // namespace trireme
