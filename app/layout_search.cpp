#include "app/layout_search.h"

#include <algorithm>
#include <optional>

#include "app/memory_plan.h"
#include "app/time_plan.h"
#include "core/error.h"

namespace trireme {

namespace {

constexpr int kMostMicro = 8;

using Sets = std::vector<std::string>;

struct Candidate {
    int tensor, pipeline, micro;

    // Context ranks share what a micro-batch of one sequence holds. Larger ones are better cut into
    // smaller ones for more data ranks, which exchange less.
    int most_context(int ranks) const { return micro == 1 ? ranks / (tensor * pipeline) : 1; }
    Sets sets(int context) const {
        return {"mesh.tensor=" + std::to_string(tensor), "mesh.context=" + std::to_string(context),
                "mesh.pipeline=" + std::to_string(pipeline), "mesh.data=auto",
                "batch.micro=" + std::to_string(micro)};
    }
};

// What makes a layout hold less, roughly from what costs least time to what costs most.
std::vector<Sets> memory_savers(int zero) {
    std::vector<Sets> all;
    const auto add = [&](int stage, const char* recompute) {
        Sets sets{"data_parallel.zero=" + std::to_string(std::max(stage, zero)),
                  std::string("recompute=") + recompute};
        if (std::find(all.begin(), all.end(), sets) == all.end()) all.push_back(std::move(sets));
    };
    add(zero, "none");
    add(zero, "selective");
    add(2, "none");
    add(zero, "full");
    add(3, "none");
    add(3, "selective");
    add(3, "full");
    return all;
}

}  // namespace

std::vector<Layout> find_layouts(const Config& config, const Cluster& cluster,
                                 const LayoutSearch& search) {
    const int ranks = config.mesh.ranks();
    std::vector<Candidate> candidates;
    for (int tensor = 1; tensor <= std::min(ranks, cluster.links.devices_per_node); tensor *= 2) {
        for (int pipeline = 1; tensor * pipeline <= ranks; pipeline *= 2) {
            for (int micro = 1; micro <= kMostMicro; micro *= 2) {
                candidates.push_back({tensor, pipeline, micro});
            }
        }
    }
    const std::vector<Sets> savers = memory_savers(config.data_parallel.zero);
    // With the first saver that lets it fit; nothing where none does or the shape is impossible.
    const auto fitting = [&](const Candidate& candidate, int context) -> std::optional<Layout> {
        try {
            for (const Sets& saver : savers) {
                Layout layout{.sets = candidate.sets(context)};
                layout.sets.insert(layout.sets.end(), saver.begin(), saver.end());
                const Config changed = search.with(layout.sets);
                layout.largest_bytes = plan_memory(changed).largest_bytes();
                if (layout.largest_bytes > cluster.memory_bytes) continue;
                const TimePlan time = plan_time(changed, cluster);
                layout.step_seconds = time.step_seconds;
                layout.tokens_per_second = time.tokens_per_second;
                layout.fits_without_saving = &saver == &savers.front();
                return layout;
            }
        } catch (const Error& error) {
            if (error.code() != ExitCode::config) throw;
        }
        return std::nullopt;
    };
    std::vector<Layout> layouts;
    for (size_t i = 0; i < candidates.size(); ++i) {
        for (int context = 1; context <= candidates[i].most_context(ranks); context *= 2) {
            std::optional<Layout> layout = fitting(candidates[i], context);
            if (!layout) continue;
            layouts.push_back(std::move(*layout));
            if (layouts.back().fits_without_saving) break;
        }
        if (search.on_progress) search.on_progress(i + 1, candidates.size());
    }
    std::stable_sort(layouts.begin(), layouts.end(), [](const Layout& one, const Layout& other) {
        return one.step_seconds < other.step_seconds;
    });
    return layouts;
}

}  // namespace trireme
