#include "parallel/checkpoint.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <random>
#include <set>

#include "core/cpu/cpu_device.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/safetensors.h"
#include "parallel/box.h"
#include "tests/core/temporary_folder.h"

using namespace trireme;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

struct TestTensor {
    std::string name;
    std::array<int64_t, 2> global;
    bool is_vector;
    DType dtype;
    std::vector<char> bytes;  // the whole logical tensor, row-major
};

TestTensor make_tensor(const std::string& name, std::array<int64_t, 2> global, bool is_vector,
                       DType dtype, uint32_t seed) {
    TestTensor tensor{name, global, is_vector, dtype, {}};
    tensor.bytes.resize(static_cast<size_t>(global[0] * global[1]) * size_of(dtype));
    std::mt19937 random(seed);
    for (char& byte : tensor.bytes) byte = static_cast<char>(random());
    return tensor;
}

std::vector<TestTensor> make_tensors() {
    return {make_tensor("embedding.weight", {257, 24}, false, DType::f32, 1),
            make_tensor("norm.weight", {1, 24}, true, DType::f32, 2),
            make_tensor("layers.0.\"odd\" name#1", {23, 7}, false, DType::bf16, 3),
            make_tensor("counter", {1, 1}, true, DType::i64, 4)};
}

std::vector<char> box_of(const TestTensor& tensor, const Box& box) {
    const size_t element = size_of(tensor.dtype);
    const size_t row_bytes = static_cast<size_t>(box.size[1]) * element;
    std::vector<char> bytes;
    for (int64_t r = 0; r < box.size[0]; ++r) {
        const int64_t from = (box.begin[0] + r) * tensor.global[1] + box.begin[1];
        const char* at = tensor.bytes.data() + static_cast<size_t>(from) * element;
        bytes.insert(bytes.end(), at, at + row_bytes);
    }
    return bytes;
}

// Pieces of one rank with the memory that they point to.
struct RankPieces {
    std::vector<CheckpointPiece> pieces;
    std::vector<std::vector<char>> memory;

    void add(const TestTensor& tensor, const Box& box) {
        memory.push_back(box_of(tensor, box));
        pieces.push_back({tensor.name, tensor.global, tensor.is_vector, box, tensor.dtype,
                          memory.back().data()});
    }
};

// Cuts a box into random ones.
std::vector<Box> random_tiling(const Box& whole, std::mt19937& random) {
    const size_t d = random() % 2;
    if (whole.elements() == 1 || whole.size[d] == 1 || random() % 4 == 0) return {whole};
    Box low = whole;
    Box high = whole;
    low.size[d] = 1 + static_cast<int64_t>(random()) % (whole.size[d] - 1);
    high.begin[d] += low.size[d];
    high.size[d] -= low.size[d];
    std::vector<Box> tiles = random_tiling(low, random);
    for (const Box& tile : random_tiling(high, random)) tiles.push_back(tile);
    return tiles;
}

std::vector<RankPieces> random_pieces(const std::vector<TestTensor>& tensors, int ranks,
                                      std::mt19937& random) {
    std::vector<RankPieces> all(static_cast<size_t>(ranks));
    for (const TestTensor& tensor : tensors) {
        for (const Box& box : random_tiling({{0, 0}, tensor.global}, random)) {
            all[random() % all.size()].add(tensor, box);
        }
    }
    return all;
}

// Saves from as many ranks as there are entries. What each rank threw (exit code ok: nothing).
std::vector<Error> save(const std::string& folder, int64_t step,
                        const std::vector<RankPieces>& pieces) {
    std::vector<Error> outcomes(pieces.size(), Error(ExitCode::ok, ""));
    run_thread_ranks(static_cast<int>(pieces.size()), [&](World& world) {
        ControlGroup group(world, "save");
        CheckpointState state;
        state.step = step;
        state.tokens = step * 1000;
        state.samples = step * 8;
        state.config = "run: {name: \"x\"}\n# \xc3\xa9\n";
        state.extra = {{"dataset", "abc"}, {"", "empty key"}};
        state.mesh.data = world.size();
        const size_t rank = static_cast<size_t>(world.rank());
        try {
            save_checkpoint(group, folder, state, pieces[rank].pieces);
        } catch (const Error& error) {
            outcomes[rank] = error;
        }
    });
    return outcomes;
}

void save_well(const std::string& folder, int64_t step, const std::vector<RankPieces>& pieces) {
    for (const Error& outcome : save(folder, step, pieces)) {
        INFO(outcome.what());
        REQUIRE(outcome.code() == ExitCode::ok);
    }
}

void check_equal(const std::string& folder, const std::vector<TestTensor>& tensors,
                 std::mt19937& random) {
    CheckpointReader reader(folder);
    CHECK(reader.names().size() == tensors.size());
    for (const TestTensor& tensor : tensors) {
        reader.expect_shape(tensor.name, tensor.global);
        CHECK(reader.tensor(tensor.name).is_vector == tensor.is_vector);
        const Box whole{{0, 0}, tensor.global};
        std::vector<Box> boxes = random_tiling(whole, random);
        boxes.push_back(whole);
        for (const Box& box : boxes) {
            const std::vector<char> expected = box_of(tensor, box);
            std::vector<char> found(expected.size(), 'x');
            reader.read(tensor.name, box, tensor.dtype, found.data());
            CHECK(found == expected);
        }
    }
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) {
        names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

// Opens the checkpoint and reads all of it. What was found wrong.
std::vector<std::string> faults_of(const std::string& folder) {
    try {
        return CheckpointReader(folder).verify();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data) return {};
        return {error.what()};
    }
}

// A fresh file, since some file systems wait for the disk when one is emptied and written again.
void overwrite(const std::string& path, const std::string& content) {
    remove_tree(path);
    File file = File::create(path);
    file.write_all(content.data(), content.size());
    file.close();
}

Error error_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& error) {
        return error;
    }
    return Error(ExitCode::ok, "no error");
}

}  // namespace

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

TEST_CASE("a damaged newest checkpoint gives way to the one before, with the reason",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    const std::string checkpoints = folder.path() + "/checkpoints";
    std::vector<std::string> skipped;
    CHECK(!find_newest_checkpoint(checkpoints, &skipped));
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
    prune_checkpoints(folder.path(), 0);
    CHECK(names_in(folder.path()) == std::vector<std::string>{"other", "step-00000005"});
    prune_checkpoints(folder.path() + "/nowhere", 2);
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

TEST_CASE("manifests that nobody should trust are refused", "[parallel][checkpoint]") {
    Manifest manifest;
    manifest.id = "0123";
    manifest.files.push_back({"shard.safetensors", 100, 1});
    manifest.tensors["a"] = {"a", DType::f32, {4, 3}, false, {{0, "a#0", {{0, 0}, {4, 3}}, 1}}};
    const std::string good = manifest_text(manifest);
    CHECK(parse_manifest(good, "m").tensors.size() == 1);

    // Each case edits the text and gives it a right checksum again.
    struct Case {
        const char* from;
        const char* to;
        const char* message;
    };
    const Case cases[] = {
        {"\"shard.safetensors\"", "\"../shard.safetensors\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"/etc/passwd\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"..\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"a\\u0000b\"", "not a plain name"},
        {"\"bytes\": 100", "\"bytes\": -100", "size is -100"},
        {"\"bytes\": 100", "\"bytes\": 1e2", "size is 100.0"},
        {"\"bytes\": 100", "\"bytes\": 99999999999999999999", "expected a whole number"},
        {"\"file\": 0", "\"file\": 1", "file index out of range"},
        {"\"version\": 1", "\"version\": 2", "format version 2"},
        {"trireme-checkpoint", "trireme-something", "not a checkpoint manifest"},
        {"\"tensors\": [", "\"tensors\": 3, \"x\": [", "'tensors' is not a list"},
        {"\"dtype\": \"F32\"", "\"dtype\": \"F31\"", "unknown element type"},
        {"\"step\": 0", "\"step\": null", "step is null"},
        {"\"step\": 0", "\"step\": 0, \"step\": 0", "appears twice"},
        {"\"id\": \"0123\"", "\"id\": [[[[[[[[[[]]]]]]]]]]", "nested deeper"},
        {"\"pieces\": [", "\"pieces\": [], \"other\": [", "cover 0 of 12"},
    };
    for (const Case& c : cases) {
        std::string rest = good.substr(good.find('\n') + 1);
        const size_t at = rest.find(c.from);
        CAPTURE(c.from, c.to);
        REQUIRE(at != std::string::npos);
        rest.replace(at, std::string(c.from).size(), c.to);
        char first[32];
        std::snprintf(first, sizeof first, "{\"crc32c\": \"%08x\",\n",
                      crc32c(rest.data(), rest.size()));
        const Error error = error_of([&] { parse_manifest(first + rest, "m"); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(c.message));
    }
    CHECK_THAT(error_of([&] { parse_manifest("", "m"); }).what(), Contains("checksum"));

    manifest.tensors["a"].global = {int64_t{1} << 40, int64_t{1} << 40};
    CHECK_THAT(error_of([&] { parse_manifest(manifest_text(manifest), "m"); }).what(),
               Contains("too large"));
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
