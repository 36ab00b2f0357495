#include <catch2/catch.hpp>

#include <cstring>
#include <filesystem>
#include <vector>

#include "app/model_checkpoint.h"
#include "tests/app/resume_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"
#include "tests/model/training_support.h"

// Training that was saved and continued is training that was never interrupted, bit for bit; and
// what one mesh saved, any mesh holds.

namespace trireme::test {

namespace {

void require_resumes(const Scenario& scenario) {
    INFO(scenario.name() << ", " << name_of(scenario.compute));
    const TemporaryFolder at_once, half, resumed;
    const Curve expected = run_stretch(scenario, {.last_step = 20, .save = at_once.path()});
    Curve found = run_stretch(scenario, {.last_step = 10, .save = half.path()});
    const Curve rest = run_stretch(
        scenario,
        {.first_step = 11, .last_step = 20, .load = newest(half.path()), .save = resumed.path()});
    found.losses.insert(found.losses.end(), rest.losses.begin(), rest.losses.end());
    found.grad_norms.insert(found.grad_norms.end(), rest.grad_norms.begin(), rest.grad_norms.end());
    CHECK(found.losses == expected.losses);
    CHECK(found.grad_norms == expected.grad_norms);
    require_same_contents(resumed.path(), at_once.path());
}

}  // namespace

TEST_CASE("20 steps are 10 steps, a checkpoint and 10 more, bit for bit", "[app][resume]") {
    require_resumes(scenario_of(Family::gpt2, mesh_of(1, 1, 1), 1, DType::f32));
    require_resumes(scenario_of(Family::gpt2, mesh_of(2, 2, 2), 1, DType::f32));
    require_resumes(scenario_of(Family::llama, mesh_of(2, 2, 2), 3, DType::bf16));
}

TEST_CASE("20 steps are 10 steps, a checkpoint and 10 more on many meshes, bit for bit",
          "[app][resume][long]") {
    using enum Family;
    const DType f32 = DType::f32, bf16 = DType::bf16;
    require_resumes(scenario_of(llama, mesh_of(1, 1, 1), 0, bf16));
    require_resumes(scenario_of(llama, mesh_of(2, 2, 2), 0, f32));
    require_resumes(scenario_of(llama, mesh_of(2, 2, 2), 1, bf16));
    require_resumes(scenario_of(gpt2, mesh_of(1, 2, 4), 0, f32));
    require_resumes(scenario_of(llama, mesh_of(1, 2, 4), 1, f32));
    require_resumes(scenario_of(gpt2, mesh_of(1, 4, 2), 1, bf16));
    require_resumes(scenario_of(llama, mesh_of(1, 4, 2), 0, f32));
    require_resumes(scenario_of(gpt2, mesh_of(1, 2, 4), 2, bf16));
    require_resumes(scenario_of(llama, mesh_of(2, 2, 2), 2, f32));
    require_resumes(scenario_of(gpt2, mesh_of(1, 2, 4), 3, f32));
    require_resumes(scenario_of(llama, mesh_of(1, 1, 2, 2), 2, bf16));
    require_resumes(scenario_of(gpt2, mesh_of(1, 2, 1, 2), 1, f32));
    Scenario hybrid = scenario_of(gpt2, mesh_of(1, 2, 4), 3, bf16);
    hybrid.data_shards = 2;
    require_resumes(hybrid);
}

TEST_CASE("a checkpoint of one mesh is the same after any other has loaded and saved it",
          "[app][resume][long]") {
    for (const Family family : {Family::gpt2, Family::llama}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            Scenario scenario = scenario_of(family, mesh_of(2, 2, 2), 1, compute);
            scenario.model = wide_model(family);
            const TemporaryFolder original;
            run_stretch(scenario, {.last_step = 3, .save = original.path()});
            for (const MeshShape& mesh :
                 {mesh_of(4, 1, 2), mesh_of(1, 1, 1), mesh_of(1, 8, 1), mesh_of(2, 1, 4)}) {
                for (const int zero : {0, 1, 2, 3}) {
                    scenario.mesh = mesh;
                    scenario.zero = zero;
                    INFO(scenario.name() << ", " << name_of(compute));
                    const TemporaryFolder again;
                    run_stretch(scenario, {.first_step = 4,
                                           .last_step = 3,
                                           .load = newest(original.path()),
                                           .save = again.path()});
                    require_same_contents(again.path(), original.path());
                }
            }
        }
    }
}

TEST_CASE("the ZeRO stages read each other's checkpoints, and write the same files again",
          "[app][resume]") {
    const Family family = GENERATE(Family::gpt2, Family::llama);
    const DType compute = GENERATE(DType::f32, DType::bf16);
    Scenario scenario = scenario_of(family, mesh_of(1, 2, 4), 3, compute);
    const TemporaryFolder first, between, last;
    const auto pass_on = [&](int zero, const TemporaryFolder& from, const TemporaryFolder& to) {
        scenario.zero = zero;
        run_stretch(
            scenario,
            {.first_step = 4, .last_step = 3, .load = newest(from.path()), .save = to.path()});
    };
    run_stretch(scenario, {.last_step = 3, .save = first.path()});
    scenario.data_shards = 2;
    pass_on(1, first, between);
    scenario.data_shards = 0;
    pass_on(3, between, last);
    require_same_contents(between.path(), first.path());
    int files = 0;
    for (const auto& file : std::filesystem::directory_iterator(newest(first.path()))) {
        if (file.path().extension() != ".safetensors") continue;
        // Without the one thing that is particular to each checkpoint.
        const auto text = [](const std::filesystem::path& path) {
            std::string all = read_text(path);
            const size_t id = all.find("checkpoint_id");
            REQUIRE(id != std::string::npos);
            return all.erase(id, std::strlen("checkpoint_id\":\"0123456789abcdef"));
        };
        const std::string name = file.path().filename().string();
        INFO(name);
        const bool is_same =
            text(file.path()) == text(std::filesystem::path(newest(last.path())) / name);
        CHECK(is_same);
        ++files;
    }
    CHECK(files == 8);
}

TEST_CASE("a checkpoint continues on another mesh with the same curve", "[app][resume]") {
    for (const Family family : {Family::gpt2, Family::llama}) {
        Scenario scenario = scenario_of(family, mesh_of(2, 2, 2), 1, DType::f32);
        const TemporaryFolder half;
        run_stretch(scenario, {.last_step = 10, .save = half.path()});
        const Stretch rest{
            .first_step = 11, .last_step = 20, .load = newest(half.path()), .save = {}};
        const Curve expected = run_stretch(scenario, rest);
        for (const MeshShape& mesh : {mesh_of(1, 1, 1), mesh_of(2, 1, 4)}) {
            scenario.mesh = mesh;
            INFO(scenario.name());
            const Curve found = run_stretch(scenario, rest);
            CHECK(largest_difference(found.losses, expected.losses) < 1.0e-5);
            CHECK(largest_difference(found.grad_norms, expected.grad_norms) < 1.0e-4);
        }
    }
}

TEST_CASE("a checkpoint of another model is refused on every mesh", "[app][resume]") {
    const TemporaryFolder folder;
    const Scenario scenario = scenario_of(Family::gpt2, mesh_of(1, 1, 1), 1, DType::f32);
    run_stretch(scenario, {.last_step = 1, .save = folder.path()});
    const auto refused = [&](Scenario other, const std::string& words) {
        for (const MeshShape& mesh : {mesh_of(1, 1, 1), mesh_of(2, 2, 1)}) {
            other.mesh = mesh;
            INFO(other.name());
            try {
                run_stretch(other, {.load = newest(folder.path()), .save = {}});
                FAIL("not refused");
            } catch (const Error& error) {
                CHECK(error.code() == ExitCode::bad_data);
                CHECK_THAT(error.what(), Catch::Contains(words));
            }
        }
    };
    Scenario narrow = scenario;
    narrow.model.ffn_hidden = 80;
    refused(narrow, "another model");
    Scenario llama = scenario;
    llama.model = odd_model(Family::llama);
    refused(llama, "another model");
    // As many parameters, but others.
    Scenario shifted = scenario;
    shifted.model.vocab_size -= 1;
    shifted.model.max_sequence_length += 1;
    refused(shifted, "[257, 48]");
}

}  // namespace trireme::test
