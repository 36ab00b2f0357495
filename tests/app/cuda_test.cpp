// What the program says about CUDA on a machine without a GPU, built with CUDA or without.

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "core/cuda_backend.h"
#include "tests/app/process_support.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

using namespace trireme;
using namespace trireme::test;
using Catch::Matchers::Contains;

namespace {

constexpr const char* kConfig =
    "run: {name: gpu, steps: 1}\n"
    "model: {preset: demo}\n"
    "data: {train: [{path: corpus}], sequence_length: 64, tokenizer: byte}\n"
    "batch: {global: 2, micro: 1}\n"
    "optimizer: {lr: 1.0e-3}\n";

}  // namespace

TEST_CASE("the version names the back ends that are built in", "[app][process][cuda]") {
    const TemporaryFolder folder;
    const Outcome outcome = trireme_in(folder.path(), {"--version"});
    CHECK(outcome.code == 0);
    CHECK_THAT(outcome.out,
               Contains(cuda_is_built_in() ? "back ends: cpu, cuda" : "back ends: cpu)"));
}

TEST_CASE("asking for cuda where there is no GPU ends with code 78 and what to do",
          "[app][process][cuda]") {
    if (visible_gpus() > 0) return;  // scripts/gpu-check looks at those
    const TemporaryFolder folder;
    write_text(folder.path() + "/config.yaml", kConfig);
    write_text(folder.path() + "/corpus.txt", std::string(5000, 'x'));
    REQUIRE(trireme_in(folder.path(), {"prepare", "--input", "corpus.txt", "--output", "corpus",
                                       "--tokenizer", "byte"})
                .code == 0);
    const int processes = GENERATE(1, 2);
    const Outcome outcome = trireme_in(
        folder.path(), {"train", "config.yaml", "--set", "device.backend=cuda"}, processes);
    INFO(outcome.error);
    CHECK(outcome.code == 78);
    CHECK_THAT(outcome.error, Contains("device.backend"));
    if (cuda_is_built_in()) {
        CHECK_THAT(outcome.error, Contains("finds no GPU") && Contains("nvidia-smi") &&
                                      Contains("device.backend: cpu"));
    } else {
        CHECK_THAT(outcome.error, Contains("not built in"));
    }
    CHECK_FALSE(std::filesystem::exists(folder.path() + "/runs"));
}

TEST_CASE("auto computes on the CPU where there is no GPU", "[app][process][cuda]") {
    if (visible_gpus() > 0) return;
    const TemporaryFolder folder;
    write_text(folder.path() + "/config.yaml", kConfig);
    write_text(folder.path() + "/corpus.txt", std::string(5000, 'x'));
    REQUIRE(trireme_in(folder.path(), {"prepare", "--input", "corpus.txt", "--output", "corpus",
                                       "--tokenizer", "byte"})
                .code == 0);
    const Outcome outcome = trireme_in(folder.path(), {"train", "config.yaml"});
    INFO(outcome.error);
    CHECK(outcome.code == 0);
    CHECK_THAT(outcome.out + outcome.error, Contains("(CPU, "));
}
