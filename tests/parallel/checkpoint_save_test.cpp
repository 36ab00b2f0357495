#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/error.h"
#include "core/file_io.h"
#include "core/safetensors.h"
#include "parallel/box.h"
#include "parallel/checkpoint_reader.h"
#include "tests/core/temporary_folder.h"
#include "tests/parallel/checkpoint_support.h"

namespace trireme::test {

using Catch::Contains;
namespace fs = std::filesystem;

TEST_CASE("a checkpoint written from any tiling is read back by any other",
          "[parallel][checkpoint]") {
    const std::vector<TestTensor> tensors = make_tensors();
    std::mt19937 random(11);
    for (const int ranks : {1, 2, 3, 5, 8}) {
        CAPTURE(ranks);
        const TemporaryFolder folder;
        save_well(folder.path() + "/checkpoints", 100, random_pieces(tensors, ranks, random));
        const std::string step = folder.path() + "/checkpoints/step-00000100";
        CHECK(names_in(folder.path() + "/checkpoints") ==
              std::vector<std::string>{"step-00000100"});
        check_equal(step, tensors, random);
        CHECK(faults_of(step).empty());

        const CheckpointReader reader(step);
        const CheckpointState& state = reader.state();
        CHECK(state.step == 100);
        CHECK(state.tokens == 100000);
        CHECK(state.samples == 800);
        CHECK(state.config == "run: {name: \"x\"}\n# \xc3\xa9\n");
        CHECK(state.extra ==
              std::map<std::string, std::string>{{"dataset", "abc"}, {"", "empty key"}});
        CHECK(state.mesh.data == ranks);
    }
}

TEST_CASE("ZeRO shards of a padded vocabulary on three tensor ranks are read as whole rows",
          "[parallel][checkpoint]") {
    const TestTensor tensor = make_tensor("embedding.weight", {257, 24}, false, DType::f32, 5);
    constexpr int kTensor = 3;
    constexpr int kData = 4;
    std::vector<RankPieces> all(kTensor * kData);
    for (int t = 0; t < kTensor; ++t) {
        const int64_t rows = 86;  // stored by each, the last one with a padding row
        const Box box{{t * rows, 0}, {std::min(rows, 257 - t * rows), 24}};
        const int64_t padding = rows - box.size[0];
        const int64_t shard = (rows * 24 + kData - 1) / kData + 5;  // cuts rows, ends unevenly
        for (int d = 0; d < kData; ++d) {
            const int64_t begin = std::min(d * shard, rows * 24);
            const int64_t count = std::min(shard, rows * 24 - begin);
            for (const FlatBox& flat : boxes_of_flat_range(box, padding, begin, count)) {
                all[static_cast<size_t>(d * kTensor + t)].add(tensor, flat.box);
            }
        }
    }
    const TemporaryFolder folder;
    save_well(folder.path(), 1, all);
    std::mt19937 random(1);
    check_equal(folder.path() + "/step-00000001", {tensor}, random);
}

TEST_CASE("shards are ordinary safetensors files", "[parallel][checkpoint]") {
    const std::vector<TestTensor> tensors = make_tensors();
    const TemporaryFolder folder;
    std::vector<RankPieces> all(3);
    all[0].add(tensors[0], {{0, 0}, {257, 24}});
    all[2].add(tensors[1], {{0, 0}, {1, 24}});
    save_well(folder.path(), 7, all);
    const std::string step = folder.path() + "/step-00000007";
    CHECK(names_in(step) == std::vector<std::string>{"manifest.json",
                                                     "shard-00000-of-00003.safetensors",
                                                     "shard-00002-of-00003.safetensors"});
    const SafetensorsHeader header =
        read_safetensors_header(step + "/shard-00002-of-00003.safetensors");
    REQUIRE(header.entries.size() == 1);
    CHECK(header.entries[0].name == "norm.weight#0");
    CHECK(header.entries[0].shape == std::vector<int64_t>{24});
    CHECK(header.metadata.at("step") == "7");
    CHECK(header.metadata.at("rank") == "2");
}

TEST_CASE("saving a step again replaces it", "[parallel][checkpoint]") {
    const std::vector<TestTensor> first{make_tensor("a", {5, 3}, false, DType::f32, 1)};
    const std::vector<TestTensor> second{make_tensor("a", {5, 3}, false, DType::f32, 2)};
    const TemporaryFolder folder;
    std::mt19937 random(2);
    save_well(folder.path(), 20, random_pieces(first, 2, random));
    save_well(folder.path(), 20, random_pieces(second, 3, random));
    CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000020"});
    check_equal(folder.path() + "/step-00000020", second, random);
}

TEST_CASE("pieces that leave a gap, overlap or disagree are an internal error on all ranks",
          "[parallel][checkpoint]") {
    const TestTensor tensor = make_tensor("a", {5, 3}, false, DType::f32, 1);
    TestTensor other = make_tensor("a", {5, 3}, false, DType::bf16, 1);
    const TemporaryFolder folder;
    const auto refused = [&](const std::vector<RankPieces>& all, const std::string& message) {
        for (const Error& outcome : save(folder.path(), 1, all)) {
            CHECK(outcome.code() == ExitCode::internal);
            CHECK_THAT(outcome.what(), Contains(message));
        }
        CHECK(names_in(folder.path()).empty());
    };
    std::vector<RankPieces> gap(3), overlap(3), outside(2), disagree(2), no_data(3);
    gap[0].add(tensor, {{0, 0}, {2, 3}});
    gap[2].add(tensor, {{2, 0}, {3, 2}});
    refused(gap, "cover 12 of 15");
    overlap[0].add(tensor, {{0, 0}, {3, 3}});
    overlap[1].add(tensor, {{2, 1}, {3, 2}});
    refused(overlap, "overlap");
    outside[0].add(tensor, {{0, 0}, {5, 3}});
    outside[1].pieces.push_back({"b", {5, 3}, false, {{4, 0}, {2, 3}}, DType::u8, "123456"});
    refused(outside, "does not lie in shape");
    disagree[0].add(tensor, {{0, 0}, {2, 3}});
    disagree[1].add(other, {{2, 0}, {3, 3}});
    refused(disagree, "agree on type and shape");
    no_data[2].add(tensor, {{0, 0}, {5, 3}});
    no_data[2].pieces[0].data = nullptr;
    refused(no_data, "(rank 2)");
}

TEST_CASE("a folder that cannot be made fails the save on all ranks", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    overwrite(folder.path() + "/file", "x");
    std::mt19937 random(9);
    const auto pieces = random_pieces(make_tensors(), 3, random);
    for (const Error& outcome : save(folder.path() + "/file/checkpoints", 1, pieces)) {
        CHECK(outcome.code() == ExitCode::output_busy);
        CHECK_THAT(outcome.what(), Contains(folder.path() + "/file/checkpoints"));
    }
    CHECK(names_in(folder.path()) == std::vector<std::string>{"file"});
}

TEST_CASE("one rank that cannot write fails the save on all ranks and keeps the former checkpoint",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    const TestTensor small = make_tensor("small", {3, 3}, false, DType::f32, 1);
    const TestTensor large = make_tensor("large", {300, 301}, false, DType::f32, 2);
    std::vector<RankPieces> all(3);
    all[0].add(small, {{0, 0}, {3, 3}});
    all[1].add(large, {{0, 0}, {300, 301}});
    save_well(folder.path(), 1, all);

    const auto former_handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit former{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &former) == 0);
    const rlimit limit{100000, former.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const std::vector<Error> later = save(folder.path(), 2, all);
    const std::vector<Error> again = save(folder.path(), 1, all);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &former) == 0);
    std::signal(SIGXFSZ, former_handler);

    for (const auto& outcomes : {later, again}) {
        for (const Error& outcome : outcomes) {
            CHECK(outcome.code() == ExitCode::io);
            CHECK_THAT(outcome.what(), Contains("shard-00001-of-00003") && Contains("too large") &&
                                           Contains("(rank 1)"));
        }
    }
    CHECK(names_in(folder.path()) == std::vector<std::string>{"step-00000001"});
    CHECK(faults_of(folder.path() + "/step-00000001").empty());
}

TEST_CASE("a full disk fails the save on all ranks and keeps the former checkpoint",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=500k") != 0) {
        WARN("not allowed to mount a small file system; full disk not tested here");
        return;
    }
    const TestTensor large = make_tensor("large", {300, 301}, false, DType::f32, 2);
    std::vector<RankPieces> all(2);
    all[1].add(large, {{0, 0}, {300, 301}});
    const std::vector<Error> first = save(folder.path(), 1, all);
    const std::vector<Error> second = save(folder.path(), 2, all);
    const std::vector<std::string> names = names_in(folder.path());
    const std::vector<std::string> faults = faults_of(folder.path() + "/step-00000001");
    CHECK(umount(folder.path().c_str()) == 0);
    for (const Error& outcome : first) CHECK(outcome.code() == ExitCode::ok);
    for (const Error& outcome : second) {
        CHECK(outcome.code() == ExitCode::io);
        CHECK_THAT(outcome.what(), Contains("No space left") && Contains("bytes free"));
    }
    CHECK(names == std::vector<std::string>{"step-00000001"});
    CHECK(faults.empty());
}

}  // namespace trireme::test
