#include "parallel/checkpoint_saver.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <thread>

#include "core/file_io.h"
#include "parallel/checkpoint_folders.h"
#include "tests/core/temporary_folder.h"
#include "tests/parallel/checkpoint_support.h"

namespace trireme::test {

using Catch::Contains;

namespace {

// On the threads of ranks, where Catch must not be asked.
void require(bool holds) {
    if (!holds) throw std::runtime_error("not as expected on a rank");
}

// One rank of a run that saves: its own pieces, its device and its saver.
struct SavingRank {
    SavingRank(World& world, RankPieces& all, const CheckpointSaver::Options& options)
        : rank_pieces(all),
          control(world, "control"),
          device(make_device({.backend = Backend::cpu, .threads = 1}, 0, 1)),
          saver(world, *device, options) {
        saver.reserve(rank_pieces.pieces);
    }

    void begin(int64_t step) { saver.begin(make_state(step, control.size()), rank_pieces.pieces); }
    // As an optimizer step does.
    void change_everything() {
        for (std::vector<char>& bytes : rank_pieces.memory) {
            for (char& byte : bytes) byte = static_cast<char>(byte * 3 + 1);
        }
    }

    RankPieces& rank_pieces;
    ControlGroup control;
    std::unique_ptr<Device> device;
    CheckpointSaver saver;
};

void run_savers(std::vector<RankPieces> pieces, const CheckpointSaver::Options& options,
                const std::function<void(SavingRank&)>& body) {
    run_thread_ranks(static_cast<int>(pieces.size()), [&](World& world) {
        SavingRank rank(world, pieces[static_cast<size_t>(world.rank())], options);
        body(rank);
    });
}

}  // namespace

TEST_CASE("a save in the background holds what was there when it began", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(21);
    const std::vector<TestTensor> tensors = make_tensors();
    std::atomic<int> good{0};
    run_savers(random_pieces(tensors, 3, random), {.folder = folder.path()}, [&](SavingRank& rank) {
        require(!rank.saver.wait());
        rank.begin(7);
        rank.change_everything();
        const std::optional<SaveReport> report = rank.saver.wait();
        if (report && !report->error && report->step == 7 && report->bytes > 24000) {
            ++good;
        }
        // The same memory serves the next save.
        rank.begin(8);
        while (!rank.saver.poll(rank.control)) std::this_thread::yield();
    });
    CHECK(good == 3);
    check_equal(folder.path() + "/step-00000007", tensors, random);
    CHECK(faults_of(folder.path() + "/step-00000008").empty());
    CHECK(read_file(folder.path() + "/" + kLatestName, 100) == "step-00000008\n");
}

TEST_CASE("a save in the foreground is done when it returns and copies nothing",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(22);
    const std::vector<TestTensor> tensors = make_tensors();
    run_savers(random_pieces(tensors, 2, random), {.folder = folder.path(), .in_background = false},
               [&](SavingRank& rank) {
                   require(rank.saver.host_bytes(rank.rank_pieces.pieces) == 0);
                   rank.begin(7);
                   rank.control.barrier();
                   rank.change_everything();
                   require(rank.saver.wait().has_value());
               });
    check_equal(folder.path() + "/step-00000007", tensors, random);
}

TEST_CASE("old checkpoints are deleted by the saver", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(23);
    run_savers(random_pieces(make_tensors(), 2, random),
               {.folder = folder.path(), .keep = 2, .keep_every = 3}, [&](SavingRank& rank) {
                   for (int64_t step = 2; step <= 8; ++step) {
                       rank.begin(step);
                       rank.saver.wait();
                   }
               });
    CHECK(names_in(folder.path()) == std::vector<std::string>{"LATEST", "step-00000003",
                                                              "step-00000006", "step-00000007",
                                                              "step-00000008"});
}

TEST_CASE("a save that fails on one rank is reported alike on all, and the next one works",
          "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    const bool in_background = GENERATE(true, false);
    overwrite(folder.path() + "/checkpoints", "a file in the way");
    std::mt19937 random(24);
    std::atomic<int> alike{0};
    run_savers(
        random_pieces(make_tensors(), 3, random),
        {.folder = folder.path() + "/checkpoints", .in_background = in_background},
        [&](SavingRank& rank) {
            rank.begin(1);
            std::optional<SaveReport> report;
            while (!report) report = rank.saver.poll(rank.control);
            if (report->error && report->error->code() == ExitCode::output_busy &&
                std::string(report->error->what()).find("checkpoints") != std::string::npos) {
                ++alike;
            }
            rank.control.barrier();
            if (rank.control.rank() == 0) remove_tree(folder.path() + "/checkpoints");
            rank.control.barrier();
            rank.begin(2);
            if (rank.saver.wait()->error) --alike;
        });
    CHECK(alike == 3);
    CHECK(faults_of(folder.path() + "/checkpoints/step-00000002").empty());
}

TEST_CASE("a save under way is finished when the run ends", "[parallel][checkpoint]") {
    const TemporaryFolder folder;
    std::mt19937 random(25);
    run_savers(random_pieces(make_tensors(), 2, random), {.folder = folder.path()},
               [&](SavingRank& rank) {
                   rank.begin(3);
                   rank.saver.let_finish(std::chrono::seconds(60));
                   rank.change_everything();
               });
    CHECK(faults_of(folder.path() + "/step-00000003").empty());
}

}  // namespace trireme::test
