#include "tests/parallel/checkpoint_support.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "core/file_io.h"
#include "parallel/checkpoint_reader.h"

namespace trireme::test {

namespace fs = std::filesystem;

TestTensor make_tensor(const std::string& name, std::array<int64_t, 2> global, bool is_vector,
                       DType dtype, uint32_t seed) {
    TestTensor tensor{name, global, is_vector, dtype, {}};
    tensor.bytes.resize(static_cast<size_t>(global[0] * global[1]) * size_of(dtype));
    std::mt19937 random(seed);
    for (char& byte : tensor.bytes) byte = static_cast<char>(random());
    return tensor;
}

std::vector<TestTensor> make_tensors(uint32_t seed) {
    return {make_tensor("embedding.weight", {257, 24}, false, DType::f32, seed + 1),
            make_tensor("norm.weight", {1, 24}, true, DType::f32, seed + 2),
            make_tensor("layers.0.\"odd\" name#1", {23, 7}, false, DType::bf16, seed + 3),
            make_tensor("counter", {1, 1}, true, DType::i64, seed + 4)};
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

void RankPieces::add(const TestTensor& tensor, const Box& box) {
    memory.push_back(box_of(tensor, box));
    pieces.push_back(
        {tensor.name, tensor.global, tensor.is_vector, box, tensor.dtype, memory.back().data()});
}

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

CheckpointState make_state(int64_t step, int ranks) {
    CheckpointState state;
    state.step = step;
    state.tokens = step * 1000;
    state.samples = step * 8;
    state.config = "run: {name: \"x\"}\n# \xc3\xa9\n";
    state.extra = {{"dataset", "abc"}, {"", "empty key"}};
    state.run_id = "a run";
    state.mesh.data = ranks;
    return state;
}

std::vector<Error> save(const std::string& folder, int64_t step,
                        const std::vector<RankPieces>& pieces) {
    std::vector<Error> outcomes(pieces.size(), Error(ExitCode::ok, ""));
    run_thread_ranks(static_cast<int>(pieces.size()), [&](World& world) {
        ControlGroup group(world, "save");
        const CheckpointState state = make_state(step, world.size());
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

}  // namespace trireme::test
