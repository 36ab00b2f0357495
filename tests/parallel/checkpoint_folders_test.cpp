#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/error.h"
#include "core/file_io.h"
#include "parallel/checkpoint_folders.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/parallel/checkpoint_support.h"

namespace trireme::test {

using Catch::Contains;
namespace fs = std::filesystem;

TEST_CASE("a damaged newest checkpoint gives way to the one before, with the reason",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    const std::string checkpoints = folder.path() + "/checkpoints";
    std::vector<std::string> skipped;
    CHECK(!find_newest_checkpoint(checkpoints, &skipped));
    CHECK(!find_newest_checkpoint(folder.path() + "/" + std::string(300, 'n'), &skipped));
    std::mt19937 random(6);
    for (const int64_t step : {9, 100, 123456789}) {
        save_well(checkpoints, step, random_pieces(make_tensors(), 2, random));
    }
    CHECK(resolve_checkpoint(folder.path()) == checkpoints + "/step-123456789");
    fs::resize_file(checkpoints + "/step-123456789/shard-00001-of-00002.safetensors", 50);
    create_folders(checkpoints + "/step-999999999");
    create_folders(checkpoints + "/step-00000200.tmp-0123456789abcdef");
    create_folders(checkpoints + "/.trash-step-00000300");
    create_folders(checkpoints + "/step-latest");
    overwrite(checkpoints + "/step-99999999999", "a file");

    CHECK(find_newest_checkpoint(checkpoints, &skipped) == checkpoints + "/step-00000100");
    REQUIRE(skipped.size() == 3);
    CHECK_THAT(skipped[0], Contains("step-99999999999: "));
    CHECK_THAT(skipped[1], Contains("step-999999999: ") && Contains("manifest.json"));
    CHECK_THAT(skipped[2], Contains("shard-00001-of-00002.safetensors: has 50 bytes"));
    CHECK(resolve_checkpoint(folder.path()) == checkpoints + "/step-00000100");
    CHECK(resolve_checkpoint(checkpoints) == checkpoints + "/step-00000100");
    CHECK(resolve_checkpoint(checkpoints + "/step-00000009") == checkpoints + "/step-00000009");
    const Error none = error_of([&] { resolve_checkpoint(folder.path() + "/nowhere"); });
    CHECK(none.code() == ExitCode::bad_data);
    CHECK_THAT(none.what(), Contains("looked for") && Contains("does not exist"));
}

TEST_CASE("what an interrupted save leaves is ignored and later deleted",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(7);
    save_well(folder.path(), 10, random_pieces(make_tensors(), 2, random));
    // As a kill right before the rename leaves it: complete, but under its temporary name.
    fs::copy(folder.path() + "/step-00000010", folder.path() + "/step-00000020.tmp-00ff");
    CHECK(find_newest_checkpoint(folder.path(), nullptr) == folder.path() + "/step-00000010");
    prune_checkpoints(folder.path(), 3);
    CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000010"});
}

TEST_CASE("pruning keeps the newest valid checkpoints", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(8);
    const std::vector<TestTensor> tensors{make_tensor("a", {3, 3}, false, DType::f32, 1)};
    for (int64_t step = 1; step <= 5; ++step) {
        save_well(folder.path(), step, random_pieces(tensors, 1, random));
    }
    fs::remove(folder.path() + "/step-00000004/manifest.json");
    overwrite(folder.path() + "/other", "kept");
    prune_checkpoints(folder.path(), 2);
    CHECK(names_in(folder.path()) ==
          std::vector<std::string>{"other", "step-00000003", "step-00000004", "step-00000005"});
    // Two sound ones stay, whatever is asked for.
    prune_checkpoints(folder.path(), 1);
    CHECK(names_in(folder.path()) ==
          std::vector<std::string>{"other", "step-00000003", "step-00000004", "step-00000005"});
    save_well(folder.path(), 6, random_pieces(tensors, 1, random));
    prune_checkpoints(folder.path(), 0);
    CHECK(names_in(folder.path()) ==
          std::vector<std::string>{"other", "step-00000005", "step-00000006"});
    prune_checkpoints(folder.path() + "/nowhere", 2);
}

TEST_CASE("checkpoints of every nth step stay for ever", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(8);
    const std::vector<TestTensor> tensors{make_tensor("a", {3, 3}, false, DType::f32, 1)};
    for (int64_t step = 2; step <= 14; step += 2) {
        save_well(folder.path(), step, random_pieces(tensors, 1, random));
        prune_checkpoints(folder.path(), 2, 4);
    }
    CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000004", "step-00000008",
                                                              "step-00000012", "step-00000014"});
}

TEST_CASE("what a living process still writes is not taken for a leftover",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    const std::string living = folder.path() + "/step-00000020.tmp-1";
    for (const char* name : {"/step-00000020.tmp-1", "/step-00000010.tmp-0", "/.trash-step-1"}) {
        create_folders(folder.path() + name);
    }
    {
        const FolderClaim claim(living);
        remove_leftovers(folder.path());
        CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000020.tmp-1"});
    }
    remove_leftovers(folder.path());
    CHECK(names_in(folder.path()).empty());
}

TEST_CASE("a run that begins before other checkpoints sets those aside", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(8);
    const std::vector<TestTensor> tensors{make_tensor("a", {3, 3}, false, DType::f32, 1)};
    for (int64_t step = 2; step <= 6; step += 2) {
        save_well(folder.path(), step, random_pieces(tensors, 1, random));
    }
    CHECK(set_aside_checkpoints(folder.path(), 6).empty());
    CHECK(set_aside_checkpoints(folder.path(), 2).size() == 2);
    save_well(folder.path(), 3, random_pieces(tensors, 1, random));
    prune_checkpoints(folder.path(), 2);
    CHECK(find_newest_checkpoint(folder.path(), nullptr) == folder.path() + "/step-00000003");
    CHECK(names_in(folder.path()).size() == 4);
    CHECK(set_aside_checkpoints(folder.path() + "/nowhere", 0).empty());
}

TEST_CASE("what was saved just now stays whatever else there is", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(8);
    const std::vector<TestTensor> tensors{make_tensor("a", {3, 3}, false, DType::f32, 1)};
    for (const int64_t step : {3, 7, 8, 9}) {
        save_well(folder.path(), step, random_pieces(tensors, 1, random));
    }
    prune_checkpoints(folder.path(), 2, 0, 3);
    CHECK(names_in(folder.path()) ==
          std::vector<std::string>{"step-00000003", "step-00000008", "step-00000009"});
}

}  // namespace trireme::test
