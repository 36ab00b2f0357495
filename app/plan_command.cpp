#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/config.h"
#include "core/error.h"
#include "core/file_io.h"
#include "parallel/schedule_drawing.h"

namespace trireme {

namespace {

nlohmann::ordered_json json_of(const Config& config, const ScheduleProgram& program,
                               const Simulation& simulation) {
    nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
    for (const Simulation::RankTimes& rank : simulation.ranks) {
        ranks.push_back({{"busy", rank.busy},
                         {"bubble", rank.bubble},
                         {"peak_activations", rank.peak_activations}});
    }
    return {{"schedule", config.pipeline.schedule},
            {"stages", program.stages},
            {"chunks", program.chunks},
            {"micro_batches", program.micro_batches},
            {"makespan", simulation.makespan},
            {"bubble_rate", simulation.bubble_rate},
            {"ranks", ranks}};
}

}  // namespace

int plan_command(const PlanArguments& arguments) {
    if (!arguments.schedule_only) {
        throw Error(
            ExitCode::config,
            "plan: only --schedule-only is built in yet, which draws the pipeline schedule; "
            "memory and speed of a run are not planned");
    }
    Config config = load_config(arguments.config, arguments.sets, arguments.world);
    if (config.mesh.data == 0) {
        const MeshShape& mesh = config.mesh;
        check_world(config, mesh.tensor * mesh.context * mesh.pipeline);
    }
    const ScheduleProgram program =
        make_schedule(config.pipeline, config.mesh.pipeline, config.micro_batches());
    // The costs are those of a whole stage; its chunks share them.
    const Simulation simulation =
        simulate(program, costs_of_chunk(config.pipeline.costs, program.chunks));
    const std::string title = config.pipeline.schedule + ", " + std::to_string(program.stages) +
                              " stages, " + std::to_string(program.micro_batches) +
                              " micro-batches";
    if (!arguments.svg.empty()) {
        replace_file(arguments.svg,
                     draw_svg(spans_of(simulation), {.title = title, .time_unit = ""}));
    }
    if (!arguments.trace.empty()) {
        replace_file(arguments.trace, draw_chrome_trace(spans_of(simulation), 1000.0));
    }
    if (arguments.json) {
        std::printf("%s\n", json_of(config, program, simulation).dump().c_str());
    } else {
        std::printf("%s\n\n%s\n%s", title.c_str(), draw_text(simulation).c_str(),
                    times_table(simulation).c_str());
    }
    return static_cast<int>(ExitCode::ok);
}

}  // namespace trireme
