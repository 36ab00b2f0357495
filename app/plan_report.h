#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

#include "app/config.h"
#include "app/layout_search.h"
#include "app/memory_changes.h"
#include "app/memory_plan.h"
#include "app/time_plan.h"
#include "parallel/schedule_simulator.h"

namespace trireme {

// What `trireme plan` has found out.
struct PlanReport {
    Config config;
    ScheduleProgram program;
    Simulation simulation;  // of the schedule alone
    MemoryPlan memory;
    std::vector<MemoryChange> changes;
    // Where a cluster is given:
    std::optional<Cluster> cluster;
    std::optional<TimePlan> time;
    std::optional<std::vector<Layout>> layouts;  // where they are asked for
};

nlohmann::ordered_json json_of(const PlanReport& report);
nlohmann::ordered_json json_of(const Config& config, const ScheduleProgram& program,
                               const Simulation& simulation);
void print(const PlanReport& report);  // to the standard output

}  // namespace trireme
