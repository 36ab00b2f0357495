#include <catch2/catch.hpp>
#include <vector>

#include "tests/model/training_support.h"

namespace trireme::test {

namespace {

// A call of Engine::next_token_logits: the window's tokens that count, and how many of them the
// last call had too.
struct Request {
    int64_t visible;
    int64_t known;
    int first_word = 0;  // other numbers begin another text
};

constexpr int64_t kWindow = 70;  // more than a block of attention's keys

std::vector<int32_t> window_of(const Request& request) {
    std::vector<int32_t> tokens(static_cast<size_t>(kWindow));
    for (int64_t t = 0; t < request.visible; ++t) {
        tokens[static_cast<size_t>(t)] =
            static_cast<int32_t>((request.first_word + t * t * 31) % 257);
    }
    return tokens;
}

// The logits of all requests, as the last rank has them.
std::vector<float> logits_of(const Scenario& scenario, bool kv_cache,
                             const std::vector<Request>& requests) {
    std::vector<float> logits;
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        EngineOptions options = engine_options_of(scenario);
        options.micro_batches = 1;
        options.forward_only = true;
        options.kv_cache = kv_cache;
        Engine engine(context_of(scenario, *device, mesh), options);
        for (const Request& request : requests) {
            const std::vector<float> row = engine.next_token_logits(
                window_of(request), request.visible - 1, kv_cache ? request.known : 0);
            if (world.rank() == world.size() - 1)
                logits.insert(logits.end(), row.begin(), row.end());
        }
    });
    return logits;
}

// A prompt, tokens one by one, several at once, another text, and the same again from its middle.
std::vector<Request> requests() {
    std::vector<Request> all{{5, 0}, {6, 5}, {7, 6}, {60, 7}};
    for (int64_t visible = 61; visible <= kWindow; ++visible) all.push_back({visible, visible - 1});
    all.insert(all.end(), {{kWindow, 0, 9}, {1, 0, 4}, {2, 1, 4}, {9, 2, 4}, {6, 3, 4}, {7, 6, 4}});
    return all;
}

Scenario scenario_of(const ModelOptions& model, const MeshShape& mesh) {
    Scenario scenario;
    scenario.model = model;
    scenario.model.max_sequence_length = kWindow;
    scenario.sequence = kWindow;
    scenario.mesh = mesh;
    return scenario;
}

}  // namespace

TEST_CASE("tokens added to known ones get the logits that they get in a whole pass",
          "[model][generation]") {
    for (const Family family : {Family::gpt2, Family::llama}) {
        const Scenario one = scenario_of(odd_model(family), {});
        const std::vector<float> expected = logits_of(one, false, requests());
        for (const Recompute policy : {Recompute::none, Recompute::selective, Recompute::full}) {
            Scenario scenario = one;
            scenario.recompute.policy = policy;
            CHECK(difference_of_largest(logits_of(scenario, true, requests()), expected) < 2e-6);
        }
        for (const MeshShape& mesh : {MeshShape{.tensor = 2}, MeshShape{.pipeline = 2},
                                      MeshShape{.tensor = 2, .data = 2, .pipeline = 2}}) {
            Scenario scenario = scenario_of(odd_model(family), mesh);
            scenario.recompute.policy = Recompute::full;
            CAPTURE(scenario.name());
            CHECK(difference_of_largest(logits_of(scenario, true, requests()), expected) < 2e-6);
        }
    }
}

TEST_CASE("known keys and values are those after the norms of heads and stretched RoPE",
          "[model][generation]") {
    const ModelOptions model = with_additions(wide_model(Family::llama));
    const std::vector<float> expected = logits_of(scenario_of(model, {}), false, requests());
    // Two tensor ranks share each key/value head.
    for (const MeshShape& mesh : {MeshShape{}, MeshShape{.tensor = 4, .pipeline = 2}}) {
        Scenario scenario = scenario_of(model, mesh);
        scenario.recompute.policy = Recompute::full;
        CHECK(difference_of_largest(logits_of(scenario, true, requests()), expected) < 2e-6);
    }
}

TEST_CASE("known keys and values in bf16 give what a whole pass in bf16 gives",
          "[model][generation]") {
    for (const Family family : {Family::gpt2, Family::llama}) {
        Scenario scenario = scenario_of(odd_model(family), {});
        scenario.compute = DType::bf16;
        const std::vector<float> expected = logits_of(scenario, false, requests());
        scenario.recompute.policy = Recompute::full;
        CHECK(difference_of_largest(logits_of(scenario, true, requests()), expected) < 1e-2);
    }
}

}  // namespace trireme::test
