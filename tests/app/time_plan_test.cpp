#include "app/time_plan.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "app/layout_search.h"
#include "app/memory_plan.h"
#include "core/error.h"
#include "model/flops.h"
#include "tests/app/config_support.h"
#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

namespace {

constexpr double kFlopsPerSecond = 1e9;

// Devices that only arithmetic keeps busy, on links that take no time.
Cluster ideal(int devices) {
    Cluster cluster;
    cluster.source = "ideal";
    cluster.links = {.devices_per_node = devices, .node = {1e30, 0.0}, .network = {1e30, 0.0}};
    cluster.memory_bytes = uint64_t{1} << 40;
    cluster.device.f32 = {.matmul = kFlopsPerSecond, .attention = kFlopsPerSecond};
    cluster.device.bf16 = cluster.device.f32;
    cluster.device.memory_bytes_per_second = 1e30;
    cluster.peak_f32 = cluster.peak_bf16 = kFlopsPerSecond;
    return cluster;
}

// Stages of nearly equal size: a small head, of rows that need no padding.
Config checked(Sets sets) {
    sets.insert(sets.begin(), "model.layers=8");
    Config config = small(sets);
    config.model.vocab_size = 16;
    check_world(config, config.mesh.ranks());
    return config;
}

// Model FLOPs, and the scores that attention's backward computes again: a sixth of attention.
double flops_of_step(const Config& config) {
    const int64_t sequence = config.data.sequence_length;
    const double again = static_cast<double>(config.model.layers * config.model.hidden * sequence);
    return (flops_per_token(config.model, sequence) + again) *
           static_cast<double>(config.batch.global * sequence);
}

const char* const kCluster = R"(nodes: 2
devices_per_node: 4
device:
  backend: cpu
  memory_gib: 2
  memory_gb_per_s: 10
  operation_us: 5
  matmul_tflops: {fp32: 0.1}
  attention_tflops: {fp32: 0.05}
node_link: {gb_per_s: 5, latency_us: 10}
network: {gb_per_s: 1, latency_us: 50}
)";

}  // namespace

TEST_CASE("on one ideal device a step takes its FLOPs and nothing else", "[app][plan][timed]") {
    const Sets family = GENERATE(Sets{}, Sets{"model.family=gpt2"}, Sets{"precision.compute=bf16"},
                                 Sets{"data.keep_documents_apart=true", "model.dropout=0.1"});
    Sets sets{"mesh.data=1"};
    sets.insert(sets.end(), family.begin(), family.end());
    const Config config = checked(sets);
    const TimePlan plan = plan_time(config, ideal(1));
    CHECK(plan.step_seconds == Approx(flops_of_step(config) / kFlopsPerSecond));
    const double model_flops = flops_per_token(config.model, config.data.sequence_length);
    CHECK(plan.mfu == Approx(plan.tokens_per_second * model_flops / kFlopsPerSecond));
    REQUIRE(plan.stages.size() == 1);
    CHECK(plan.stages[0].matmul + plan.stages[0].attention == Approx(plan.step_seconds));
}

TEST_CASE("what is computed again takes its time again", "[app][plan][timed]") {
    const double once = plan_time(checked({"mesh.data=1"}), ideal(1)).step_seconds;
    const auto share = [&](const std::string& recompute) {
        const Config config = checked({"mesh.data=1", "recompute=" + recompute});
        return plan_time(config, ideal(1)).step_seconds / once;
    };
    // The forward of all layers, a third of the step, but the last product, whose result nobody
    // needs; or that of attention alone.
    CHECK(share("full") > 1.25);
    CHECK(share("full") < 4.0 / 3.0);
    CHECK(share("selective") > 1.0);
    CHECK(share("selective") < share("full"));
}

TEST_CASE("ranks share a step's FLOPs on every axis", "[app][plan][timed]") {
    const double alone = plan_time(checked({"mesh.data=1"}), ideal(1)).step_seconds;
    const auto share = [&](const Sets& sets, int ranks) {
        return plan_time(checked(sets), ideal(ranks)).step_seconds / alone;
    };
    CHECK(share({"mesh.data=3"}, 3) == Approx(1.0 / 3));
    CHECK(share({"mesh.data=2", "data_parallel.zero=3"}, 2) == Approx(1.0 / 2));
    CHECK(share({"mesh.tensor=2", "mesh.data=1"}, 2) == Approx(1.0 / 2));
}

TEST_CASE("an ideal pipeline idles as its schedule says", "[app][plan][timed]") {
    const double alone = plan_time(checked({"mesh.data=1"}), ideal(1)).step_seconds;
    const auto slower = [&](const Sets& schedule, int stages) {
        Sets sets{"mesh.data=1", "mesh.pipeline=" + std::to_string(stages)};
        sets.insert(sets.end(), schedule.begin(), schedule.end());
        const Config config = checked(sets);
        REQUIRE(config.micro_batches() == 6);
        return plan_time(config, ideal(stages)).step_seconds / (alone / stages);
    };
    // (stages - 1) / micro-batches, divided by the chunks.
    CHECK(slower({"pipeline.schedule=1f1b"}, 2) == Approx(1 + 1.0 / 6).epsilon(0.01));
    CHECK(slower({"pipeline.schedule=gpipe"}, 4) == Approx(1 + 3.0 / 6).epsilon(0.01));
    CHECK(slower({"pipeline.schedule=1f1b"}, 4) == Approx(1 + 3.0 / 6).epsilon(0.01));
    CHECK(slower({"pipeline.schedule=interleaved", "pipeline.virtual_stages=2"}, 2) ==
          Approx(1 + 1.0 / 12).epsilon(0.01));
    // Weight gradients fill what 1F1B leaves idle; W is a third of a layer's products.
    CHECK(slower({"pipeline.schedule=zb-h1"}, 2) < 1 + 0.75 / 6);
}

TEST_CASE("no schedule or sharing is estimated below its arithmetic, or above one rank's",
          "[app][plan][timed]") {
    const std::string schedule =
        GENERATE("gpipe", "1f1b", "zb-h1", "zb-h2", "zb-v", "zb-auto", "interleaved");
    const int zero = GENERATE(0, 1, 2, 3);
    const std::string recompute = GENERATE("none", "selective", "full");
    Sets sets{"pipeline.schedule=" + schedule,
              "mesh.pipeline=2",
              "mesh.data=2",
              "mesh.tensor=2",
              "batch.micro=2",
              "data_parallel.zero=" + std::to_string(zero),
              "recompute=" + recompute,
              "model.tie_embeddings=true"};
    if (schedule == "interleaved") sets.emplace_back("pipeline.virtual_stages=2");
    CAPTURE(sets);
    const Config config = checked(sets);
    const double alone = flops_of_step(config) / kFlopsPerSecond;
    const TimePlan plan = plan_time(config, ideal(8));
    CHECK(plan.step_seconds > alone / 8);
    CHECK(plan.step_seconds < alone);
    for (const TimePlan::Stage& stage : plan.stages) {
        const double parts = stage.matmul + stage.attention + stage.other_compute +
                             stage.waits.tensor + stage.waits.context + stage.waits.data +
                             stage.waits.pipeline + stage.other_wait;
        CHECK(parts == Approx(plan.step_seconds));
    }
}

TEST_CASE("a slow axis shows in the waits for it and in no other", "[app][plan][timed]") {
    Cluster slow = ideal(2);
    slow.links.node = {.bytes_per_second = 1e6, .latency_seconds = 0.0};
    const auto stage = [&](Sets sets) {
        sets.emplace_back("data_parallel.bucket_mb=0.05");
        return plan_time(checked(sets), slow).stages[0];
    };
    const TimePlan::Stage tensor = stage({"mesh.tensor=2", "mesh.data=1"});
    CHECK(tensor.waits.tensor > 0.0);
    CHECK(tensor.waits.data + tensor.waits.pipeline == 0.0);
    const TimePlan::Stage context = stage({"mesh.context=2", "mesh.data=1"});
    CHECK(context.waits.context > 0.0);
    CHECK(context.waits.tensor + context.waits.pipeline == 0.0);
    const TimePlan::Stage data = stage({"mesh.data=2"});
    CHECK(data.waits.data > 0.0);
    CHECK(data.waits.tensor + data.waits.pipeline == 0.0);
    const TimePlan::Stage pipeline = stage({"mesh.pipeline=2", "mesh.data=1"});
    CHECK(pipeline.waits.pipeline > 0.0);
    CHECK(pipeline.waits.tensor + pipeline.waits.data == 0.0);
    // Behind backward there is less to wait for.
    const TimePlan::Stage at_end = stage({"mesh.data=2", "data_parallel.overlap=false"});
    CHECK(at_end.waits.data > data.waits.data);
}

TEST_CASE("an estimate is the same each time", "[app][plan][timed]") {
    Cluster cluster = parse_cluster(kCluster, "cluster.yaml", DType::f32);
    const Config config = checked({"mesh.tensor=2", "mesh.pipeline=4", "mesh.data=1",
                                   "pipeline.schedule=zb-h1", "model.tie_embeddings=true"});
    const TimePlan first = plan_time(config, cluster);
    for (int i = 0; i < 5; ++i) {
        const TimePlan again = plan_time(config, cluster);
        CHECK(again.step_seconds == first.step_seconds);
        CHECK(again.stages[1].waits.pipeline == first.stages[1].waits.pipeline);
    }
}

TEST_CASE("layouts that are found fit and are sorted by their estimate", "[app][plan][timed]") {
    Cluster cluster = parse_cluster(kCluster, "cluster.yaml", DType::f32);
    const auto with = [](const Sets& sets) {
        Sets all{"model.layers=8", "batch.global=32", "batch.micro=1"};
        all.insert(all.end(), sets.begin(), sets.end());
        Config config = small(all);
        check_world(config, 8);
        return config;
    };
    const Config config = with({});
    cluster.memory_bytes = plan_memory(config).largest_bytes();
    std::vector<uint64_t> done;
    const std::vector<Layout> layouts = find_layouts(
        config, cluster,
        {.with = with, .on_progress = [&](uint64_t i, uint64_t) { done.push_back(i); }});
    REQUIRE(layouts.size() > 5);
    CHECK(done.size() >= layouts.size());
    bool has_own = false;
    for (size_t i = 0; i < layouts.size(); ++i) {
        const Layout& layout = layouts[i];
        CAPTURE(layout.sets);
        CHECK(layout.largest_bytes <= cluster.memory_bytes);
        if (i > 0) CHECK(layout.step_seconds >= layouts[i - 1].step_seconds);
        const Config laid_out = with(layout.sets);
        CHECK(laid_out.mesh.ranks() == 8);
        CHECK(plan_memory(laid_out).largest_bytes() == layout.largest_bytes);
        CHECK(plan_time(laid_out, cluster).step_seconds == layout.step_seconds);
        has_own |= laid_out.mesh == config.mesh && laid_out.batch.micro == config.batch.micro &&
                   laid_out.data_parallel.zero == config.data_parallel.zero;
    }
    CHECK(has_own);
    cluster.memory_bytes = 1000;
    CHECK(find_layouts(config, cluster, {.with = with, .on_progress = {}}).empty());
}

TEST_CASE("the context axis is searched where nothing smaller fits without saving memory",
          "[app][plan][timed]") {
    Cluster cluster = parse_cluster(kCluster, "cluster.yaml", DType::f32);
    const auto with = [](const Sets& sets) {
        Sets all{"data.sequence_length=32", "batch.global=8", "batch.micro=1"};
        all.insert(all.end(), sets.begin(), sets.end());
        Config config = small(all);
        check_world(config, 8);
        return config;
    };
    const auto largest_context = [&] {
        int largest = 0;
        for (const Layout& layout :
             find_layouts(with({}), cluster, {.with = with, .on_progress = {}})) {
            largest = std::max(largest, with(layout.sets).mesh.context);
        }
        return largest;
    };
    cluster.memory_bytes = uint64_t{1} << 40;
    CHECK(largest_context() == 1);
    cluster.memory_bytes = plan_memory(with({})).largest_bytes() - 1;
    CHECK(largest_context() > 1);
}

TEST_CASE("trireme plan estimates the time of a step on a cluster", "[app][plan][timed][process]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/run.yaml", tiny_run(2));
    write_text(folder.path() + "/cluster.yaml", kCluster);
    const auto plan = [&](const Arguments& more) {
        Arguments command{"plan", "run.yaml", "--cluster", "cluster.yaml"};
        command.insert(command.end(), more.begin(), more.end());
        return trireme_in(folder.path(), command);
    };
    const Outcome text = plan({"--world", "1"});
    INFO(text.error);
    REQUIRE(text.code == 0);
    CHECK_THAT(text.out, Catch::Contains("estimated for cluster.yaml, 1 of its 8 devices"));
    CHECK_THAT(text.out, Catch::Contains("fits"));
    const Outcome json = plan({"--world", "1", "--json", "--layouts"});
    REQUIRE(json.code == 0);
    const auto parsed = nlohmann::json::parse(json.out);
    CHECK(parsed.at("time").at("step_seconds") > 0.0);
    CHECK(parsed.at("time").at("stages").size() == 1);
    CHECK(parsed.at("layouts").size() >= 1);

    const Outcome too_many = plan({"--world", "9", "--set", "batch.global=9", "batch.micro=1"});
    CHECK(too_many.code == 78);
    CHECK_THAT(too_many.error, Catch::Contains("found 8 devices, expected 9"));
    CHECK(plan({"--cluster", "missing.yaml"}).code == 78);
    CHECK(trireme_in(folder.path(), {"plan", "run.yaml", "--layouts"}).code == 78);
}

TEST_CASE("what trireme measure prints is a cluster that a run can be planned for",
          "[app][plan][timed][process][long]") {
    const int processes = GENERATE(1, 2);
    const TemporaryFolder folder;
    const Outcome measured = trireme_in(folder.path(), {"measure", "--threads", "1"}, processes);
    INFO(measured.error);
    REQUIRE(measured.code == 0);
    INFO(measured.out);
    const Cluster cluster = parse_cluster(measured.out, "measured", DType::bf16);
    CHECK(cluster.devices() == processes);
    CHECK(cluster.backend == Backend::cpu);
    CHECK(cluster.device.f32.matmul > 1e9);
    CHECK(cluster.device.f32.attention > 1e8);
    CHECK(cluster.device.memory_bytes_per_second > 1e8);
    CHECK((cluster.links.node.bytes_per_second > 1e7) == (processes > 1));
    CHECK(cluster.links.network.bytes_per_second == 0.0);
    CHECK(trireme_in(folder.path(), {"measure", "--backend", "tpu"}).code == 78);
}

}  // namespace trireme::test
