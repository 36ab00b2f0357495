#include "app/time_plan.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

#include "app/engine_setup.h"
#include "core/timed_device.h"
#include "model/flops.h"
#include "parallel/timed_network.h"

namespace trireme {

namespace {

// One stage's process at the end of a step.
struct Reading {
    double now = 0.0, busy = 0.0, matmul = 0.0, attention = 0.0;
};

struct PlayedRank {
    Reading first, second;  // of two steps
    AxisSeconds waits;      // of the second
};

Reading read(TimedDevice& device) {
    return {device.compute().now(), device.compute().busy_seconds(), device.ops().matmul_seconds(),
            device.ops().attention_seconds()};
}

// The first step begins with nothing under way, the second as every later one.
PlayedRank play(const Config& config, const Cluster& cluster, World& world) {
    TimedDevice device(config.device.backend, cluster.device, config.precision.compute);
    const std::unique_ptr<Mesh> mesh = make_mesh(world, config);
    const std::unique_ptr<Engine> engine = make_engine(
        config, EngineUse::train, device, *mesh, config.batch.micro, config.data.sequence_length);
    const std::vector<int32_t> zeros(static_cast<size_t>(config.batch.micro) *
                                     static_cast<size_t>(config.data.sequence_length));
    HostMicroBatch micro_batch{.tokens = zeros, .labels = zeros};
    if (config.data.keep_documents_apart) micro_batch.document_begin = zeros;
    const auto source = [&](int) { return micro_batch; };

    PlayedRank rank;
    engine->step(1, 0.0, source);
    rank.first = read(device);
    engine->step(2, 0.0, source);
    rank.waits = mesh->waits().seconds();  // those in the update too
    rank.second = read(device);
    return rank;
}

std::vector<PlayedRank> play_stages(const Config& config, const Cluster& cluster) {
    const size_t stages = static_cast<size_t>(config.mesh.pipeline);
    std::vector<int> played;
    for (int stage = 0; stage < config.mesh.pipeline; ++stage) {
        played.push_back(
            rank_of(config.mesh, {.tensor = 0, .context = 0, .data = 0, .pipeline = stage}));
    }
    const PlannedRanks ranks(config.mesh.ranks(), [&](World& world) { make_mesh(world, config); });
    TimedNetwork network(cluster.links, played);
    std::vector<PlayedRank> results(stages);
    std::mutex mutex;
    std::exception_ptr failure;  // the first
    const auto run = [&](size_t stage) {
        try {
            const std::unique_ptr<World> world = ranks.world_of(
                played[stage],
                [&](const PlannedRanks::Group& group) { return network.make_group(group); });
            results[stage] = play(config, cluster, *world);
        } catch (...) {
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
            network.close();
        }
    };
    std::vector<std::jthread> threads;
    try {
        for (size_t stage = 0; stage < stages; ++stage) threads.emplace_back(run, stage);
    } catch (...) {
        network.close();  // the threads that there are wait for those that there are not
        throw;
    }
    threads.clear();
    if (failure) std::rethrow_exception(failure);
    return results;
}

}  // namespace

TimePlan plan_time(const Config& config, const Cluster& cluster) {
    Config played = config;
    played.device.graphs = GraphUse::never;  // they save the host's time, which is not counted
    const std::vector<PlayedRank> ranks = play_stages(played, cluster);
    double begin = 0.0, end = 0.0;
    for (const PlayedRank& rank : ranks) {
        begin = std::max(begin, rank.first.now);
        end = std::max(end, rank.second.now);
    }
    TimePlan plan;
    plan.step_seconds = end - begin;
    for (const PlayedRank& rank : ranks) {
        TimePlan::Stage& stage = plan.stages.emplace_back();
        const double busy = rank.second.busy - rank.first.busy;
        stage.matmul = rank.second.matmul - rank.first.matmul;
        stage.attention = rank.second.attention - rank.first.attention;
        stage.other_compute = busy - stage.matmul - stage.attention;
        stage.waits = rank.waits;
        stage.other_wait = std::max(0.0, plan.step_seconds - busy - stage.waits.total());
    }
    const double tokens =
        static_cast<double>(config.batch.global) * static_cast<double>(config.data.sequence_length);
    plan.tokens_per_second = tokens / plan.step_seconds;
    plan.flops_per_second_per_rank = plan.tokens_per_second / config.mesh.ranks() *
                                     flops_per_token(config.model, config.data.sequence_length);
    const bool is_bf16 = config.precision.compute == DType::bf16;
    plan.mfu = plan.flops_per_second_per_rank / (is_bf16 ? cluster.peak_bf16 : cluster.peak_f32);
    return plan;
}

}  // namespace trireme
