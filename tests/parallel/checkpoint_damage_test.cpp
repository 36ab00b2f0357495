#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/error.h"
#include "core/file_io.h"
#include "parallel/checkpoint_reader.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/parallel/checkpoint_support.h"

namespace trireme::test {

using Catch::Contains;
namespace fs = std::filesystem;

TEST_CASE("each of 200 random truncations and bit flips is found and names its file",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(4);
    save_well(folder.path(), 3, random_pieces(make_tensors(), 3, random));
    const std::string step = folder.path() + "/step-00000003";
    const std::vector<std::string> names = names_in(step);
    REQUIRE(names.size() == 4);
    for (int i = 0; i < 200; ++i) {
        const std::string& name = names[random() % names.size()];
        const std::string path = step + "/" + name;
        const std::string good = read_file(path, 1 << 20);
        std::string bad = good;
        // Headers are small beside the data, so half of the flips are aimed at them.
        const size_t range = random() % 2 == 0 ? std::min<size_t>(300, bad.size()) : bad.size();
        const size_t at = random() % range;
        if (i % 3 == 0) {
            bad.resize(at);
        } else {
            bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
        }
        overwrite(path, bad);
        CAPTURE(name, at, i);
        const std::vector<std::string> faults = faults_of(step);
        REQUIRE(!faults.empty());
        for (const std::string& fault : faults) CHECK_THAT(fault, Contains(name));
        overwrite(path, good);
    }
    CHECK(faults_of(step).empty());
}

TEST_CASE("damaged data is refused when it is read, naming file and tensor",
          "[parallel][checkpoint]") {
    const std::vector<TestTensor> tensors = make_tensors();
    const TemporaryFolder folder;
    std::vector<RankPieces> all(2);
    all[0].add(tensors[0], {{0, 0}, {257, 24}});
    all[1].add(tensors[1], {{0, 0}, {1, 24}});
    save_well(folder.path(), 3, all);
    const std::string step = folder.path() + "/step-00000003";
    const std::string path = step + "/shard-00000-of-00002.safetensors";
    std::string bytes = read_file(path, 1 << 20);
    bytes.back() = static_cast<char>(bytes.back() ^ 16);
    overwrite(path, bytes);

    CheckpointReader reader(step);
    std::vector<char> row(24 * 4);
    const Error error = error_of([&] {
        reader.read("embedding.weight", {{0, 0}, {1, 24}}, DType::f32, row.data());
    });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains(path) && Contains("embedding.weight"));
    reader.read("norm.weight", {{0, 0}, {1, 24}}, DType::f32, row.data());
    CHECK(row == tensors[1].bytes);
}

TEST_CASE("a checkpoint of another model is refused by tensor, found and expected",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(5);
    save_well(folder.path(), 3, random_pieces(make_tensors(), 2, random));
    CheckpointReader reader(folder.path() + "/step-00000003");
    CHECK(reader.has("norm.weight"));
    CHECK(!reader.has("absent"));
    const Error shape = error_of([&] { reader.expect_shape("embedding.weight", {300, 24}); });
    CHECK(shape.code() == ExitCode::bad_data);
    CHECK_THAT(shape.what(), Contains("embedding.weight") && Contains("[257, 24]") &&
                                 Contains("[300, 24]") && Contains("another model"));
    CHECK(error_of([&] { reader.expect_shape("absent", {1, 1}); }).code() == ExitCode::bad_data);
    float value = 0;
    const Error type = error_of([&] {
        reader.read("norm.weight", {{0, 0}, {1, 1}}, DType::bf16, &value);
    });
    CHECK_THAT(type.what(), Contains("F32") && Contains("BF16"));
}

TEST_CASE("a shard of another checkpoint or behind a link is refused", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    const std::vector<TestTensor> tensors{make_tensor("a", {3, 3}, false, DType::f32, 1)};
    std::mt19937 random(10);
    save_well(folder.path(), 1, random_pieces(tensors, 1, random));
    save_well(folder.path(), 2, random_pieces(tensors, 1, random));
    const std::string name = "/shard-00000-of-00001.safetensors";
    const std::string mine = folder.path() + "/step-00000002" + name;
    const std::string old = folder.path() + "/step-00000001" + name;
    fs::copy_file(old, mine, fs::copy_options::overwrite_existing);
    CHECK(!faults_of(folder.path() + "/step-00000002").empty());
    fs::remove(mine);
    fs::create_symlink(old, mine);
    const std::vector<std::string> faults = faults_of(folder.path() + "/step-00000002");
    REQUIRE(faults.size() == 1);
    CHECK_THAT(faults[0], Contains("not a regular file"));
}

}  // namespace trireme::test
