#include "parallel/checkpoint_load.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <random>

#include "core/file_io.h"
#include "core/safetensors.h"
#include "parallel/checkpoint_folders.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/parallel/checkpoint_support.h"

namespace trireme::test {

using Catch::Contains;
namespace fs = std::filesystem;

namespace {

struct Loaded {
    LoadChoice choice;
    Error error{ExitCode::ok, ""};
    bool is_right = false;  // every byte that this rank took is of the tensors expected
};

// Loads on two ranks, of which each takes two of the four tensors, and compares with what the
// chosen folder must hold.
std::vector<Loaded> load_on_two_ranks(
    const std::vector<std::string>& folders,
    const std::function<const std::vector<TestTensor>&(const std::string&)>& expected) {
    std::vector<Loaded> ranks(2);
    run_thread_ranks(2, [&](World& world) {
        const size_t rank = static_cast<size_t>(world.rank());
        ControlGroup group(world, "load");
        std::vector<std::vector<char>> found;
        const auto load = [&](CheckpointReader& reader) {
            found.clear();
            for (size_t i = rank; i < 4; i += 2) {
                const TestTensor& tensor = expected(reader.folder())[i];
                reader.expect_shape(tensor.name, tensor.global);
                found.emplace_back(tensor.bytes.size());
                reader.read(tensor.name, {{0, 0}, tensor.global}, tensor.dtype,
                            found.back().data());
            }
        };
        Loaded& mine = ranks[rank];
        try {
            mine.choice = load_first_sound(group, folders, load);
            mine.is_right = found.size() == 2;
            for (size_t i = 0; i < found.size(); ++i) {
                mine.is_right &= found[i] == expected(mine.choice.folder)[rank + 2 * i].bytes;
            }
        } catch (const Error& error) {
            mine.error = error;
        }
    });
    return ranks;
}

// Two checkpoints of different contents in a folder, and ways to damage the newer one.
struct TwoCheckpoints {
    TwoCheckpoints() {
        save_well(folder.path(), 10, random_pieces(older, 3, random));
        save_well(folder.path(), 20, random_pieces(newer, 3, random));
        names = names_in(step);
    }

    std::vector<Loaded> load() {
        return load_on_two_ranks(list_checkpoints(folder.path()),
                                 [&](const std::string& at) -> const std::vector<TestTensor>& {
                                     return at == step ? newer : older;
                                 });
    }

    // The tensor that holds a byte of a shard; empty for its header.
    std::string tensor_at(const std::string& name, uint64_t byte) const {
        const SafetensorsHeader header = read_safetensors_header(step + "/" + name);
        for (const SafetensorsEntry& entry : header.entries) {
            if (byte >= header.data_offset + entry.begin && byte < header.data_offset + entry.end) {
                return entry.name.substr(0, entry.name.rfind('#'));
            }
        }
        return "";
    }

    TemporaryFolder folder;
    std::mt19937 random{31};
    const std::vector<TestTensor> older = make_tensors(100);
    const std::vector<TestTensor> newer = make_tensors(200);
    const std::string step = folder.path() + "/step-00000020";
    std::vector<std::string> names;
};

// Each random bit flip and truncation of the newer checkpoint is found by both ranks, named, and
// answered with the older one.
void check_damages(int n, uint32_t seed) {
    TwoCheckpoints two;
    REQUIRE(two.names.size() == 4);
    std::mt19937 random(seed);
    for (int i = 0; i < n; ++i) {
        const std::string& name = two.names[static_cast<size_t>(i) % two.names.size()];
        const std::string path = two.step + "/" + name;
        const std::string good = read_file(path, 1 << 20);
        std::string bad = good;
        // Headers are small beside the data, so half of the damages are aimed at them.
        const size_t range = random() % 2 == 0 ? std::min<size_t>(300, bad.size()) : bad.size();
        const size_t at = random() % range;
        const bool cuts = random() % 3 == 0;
        const std::string tensor = cuts || name == kManifestName ? "" : two.tensor_at(name, at);
        if (cuts) {
            bad.resize(at);
        } else {
            bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
        }
        overwrite(path, bad);
        CAPTURE(name, at, cuts, i);
        for (const Loaded& rank : two.load()) {
            CHECK_THAT(rank.choice.folder, Catch::EndsWith("/step-00000010"));
            CHECK(rank.is_right);
            REQUIRE(rank.choice.skipped.size() == 1);
            CHECK_THAT(rank.choice.skipped[0], Contains(name) && Contains(tensor));
        }
        overwrite(path, good);
    }
    for (const Loaded& rank : two.load()) {
        CHECK(rank.choice.folder == two.step);
        CHECK(rank.is_right);
    }
}

}  // namespace

TEST_CASE("each of 40 random damages is found, named and answered with the checkpoint before",
          "[parallel][checkpoint]") {
    check_damages(40, 41);
}

TEST_CASE("each of 500 random damages is found, named and answered with the checkpoint before",
          "[parallel][checkpoint][slow][damage]") {
    check_damages(500, 42);
}

TEST_CASE("damage that only one rank reads makes all ranks fall back", "[parallel][checkpoint]") {
    TwoCheckpoints two;
    // The last byte of a tensor that rank 1 alone takes.
    bool is_done = false;
    for (const std::string& name : two.names) {
        if (name == kManifestName || is_done) continue;
        const std::string path = two.step + "/" + name;
        const SafetensorsHeader header = read_safetensors_header(path);
        for (const SafetensorsEntry& entry : header.entries) {
            if (!entry.name.starts_with("norm.weight") || is_done) continue;
            std::string bytes = read_file(path, 1 << 20);
            bytes[header.data_offset + entry.end - 1] ^= 1;
            overwrite(path, bytes);
            is_done = true;
        }
    }
    REQUIRE(is_done);
    for (const Loaded& rank : two.load()) {
        CHECK_THAT(rank.choice.folder, Catch::EndsWith("/step-00000010"));
        CHECK(rank.is_right);
        REQUIRE(rank.choice.skipped.size() == 1);
        CHECK_THAT(rank.choice.skipped[0], Contains("norm.weight") && Contains("checksum"));
    }
}

TEST_CASE("when every checkpoint is damaged all reasons are told", "[parallel][checkpoint]") {
    TwoCheckpoints two;
    fs::remove(two.step + "/" + two.names.back());
    fs::remove(two.folder.path() + "/step-00000010/manifest.json");
    for (const Loaded& rank : two.load()) {
        CHECK(rank.error.code() == ExitCode::bad_data);
        CHECK_THAT(rank.error.what(), Contains(two.names.back()) && Contains("step-00000010") &&
                                          Contains("checkpoint.resume"));
    }
    CHECK(load_on_two_ranks({}, {})[0].choice.folder.empty());
}

TEST_CASE("a sound checkpoint of another model is no reason to fall back",
          "[parallel][checkpoint]") {
    TwoCheckpoints two;
    run_thread_ranks(2, [&](World& world) {
        ControlGroup group(world, "load");
        const Error error = error_of([&] {
            load_first_sound(group, list_checkpoints(two.folder.path()),
                             [&](CheckpointReader& reader) {
                                 if (world.rank() == 1) reader.expect_shape("counter", {1, 2});
                             });
        });
        if (error.code() != ExitCode::bad_data ||
            std::string(error.what()).find("step-00000020") == std::string::npos) {
            throw error;
        }
    });
}

TEST_CASE("a path means a step folder, a run folder or a checkpoints folder",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(9);
    const std::string at = folder.path() + "/checkpoints";
    for (const int64_t step : {5, 6}) save_well(at, step, random_pieces(make_tensors(), 1, random));
    const std::vector<std::string> both{at + "/step-00000006", at + "/step-00000005"};
    CHECK(checkpoints_at(folder.path()) == both);
    CHECK(checkpoints_at(at) == both);
    CHECK(checkpoints_at(both[1]) == std::vector<std::string>{both[1]});
    CHECK(error_of([&] { checkpoints_at(folder.path() + "/none"); }).code() == ExitCode::bad_data);
    std::vector<std::string> skipped;
    CHECK(usable_checkpoints_at(folder.path(), skipped) == both);
    CHECK(skipped.empty());
    fs::remove(both[0] + "/manifest.json");
    CHECK(usable_checkpoints_at(folder.path(), skipped) == std::vector<std::string>{both[1]});
    CHECK(skipped.size() == 1);
}

}  // namespace trireme::test
