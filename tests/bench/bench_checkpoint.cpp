#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/crc32c.h"
#include "core/file_io.h"
#include "parallel/checkpoint_saver.h"

// How fast checkpoints are saved on a disk, against a plain write and fsync of the same bytes: see
// scripts/bench-checkpoint.
//
//   bench_checkpoint FOLDER [MIB] [RANKS] [REPEATS]

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const std::function<void()>& work) {
    const auto begin = Clock::now();
    work();
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t n = values.size();
    return (values[n / 2] + values[(n - 1) / 2]) / 2;
}

// As many pieces as a model of some layers has, all of one rank's bytes.
struct RankData {
    std::vector<float> values;
    std::vector<CheckpointPiece> pieces;

    RankData(int rank, int ranks, size_t bytes) : values(bytes / sizeof(float)) {
        std::minstd_rand random(static_cast<unsigned>(rank) + 1);
        for (float& value : values) value = static_cast<float>(random());
        constexpr int kPieces = 64;
        const int64_t columns = static_cast<int64_t>(values.size()) / kPieces;
        for (int i = 0; i < kPieces; ++i) {
            pieces.push_back({.tensor = "tensor " + std::to_string(i),
                              .global = {ranks, columns},
                              .box = {{rank, 0}, {1, columns}},
                              .dtype = DType::f32,
                              .data = values.data() + i * columns});
        }
    }
};

void write_plainly(const std::string& path, const std::vector<float>& values) {
    File file = File::create(path);
    file.write_all(values.data(), values.size() * sizeof(float));
    file.sync();
    file.close();
    sync_folder(path.substr(0, path.rfind('/')));
}

struct Times {
    std::vector<double> plain, save, snapshot, writing, share, writing_share;
};

void measure(World& world, const std::string& folder, size_t bytes, int repeats, Times& times) {
    const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
    ControlGroup group(world, "bench");
    const RankData data(world.rank(), world.size(), bytes);
    CheckpointSaver now(world, *device, {.folder = folder + "/now", .in_background = false});
    CheckpointSaver later(world, *device, {.folder = folder + "/later"});
    later.reserve(data.pieces);
    const auto save = [&](CheckpointSaver& saver) {
        CheckpointState state;
        state.step = 1;
        saver.begin(state, data.pieces);
        const SaveReport report = *saver.wait();
        if (report.error) throw *report.error;
        return report;
    };
    const auto all_at_once = [&](const std::function<void()>& work) {
        if (world.rank() == 0) {
            remove_tree(folder);
            create_folders(folder);
        }
        group.barrier();
        return group.largest(seconds_of(work));
    };
    for (int i = -1; i < repeats; ++i) {
        SaveReport report;
        const auto plain = [&] {
            return all_at_once([&] {
                write_plainly(folder + "/plain-" + std::to_string(world.rank()), data.values);
            });
        };
        const auto saved = [&] { return all_at_once([&] { save(now); }); };
        // In turns, so that neither always comes first.
        const double first = i % 2 == 0 ? plain() : saved();
        const double second = i % 2 == 0 ? saved() : plain();
        all_at_once([&] { report = save(later); });
        if (i < 0 || world.rank() != 0) continue;  // the first round fills caches
        const double a = i % 2 == 0 ? first : second;
        const double b = i % 2 == 0 ? second : first;
        times.plain.push_back(a);
        times.save.push_back(b);
        times.share.push_back(a / b);
        times.snapshot.push_back(report.snapshot_seconds);
        times.writing.push_back(report.write_seconds);
        times.writing_share.push_back(a / report.write_seconds);
    }
    group.barrier();
    if (world.rank() == 0) remove_tree(folder);
}

double rate(double bytes, double seconds) {
    return bytes / seconds / 1e6;
}

int run(const std::string& parent, size_t mib, int ranks, int repeats) {
    const std::string folder = parent + "/bench-checkpoint";
    const size_t bytes = (mib << 20) / static_cast<size_t>(ranks);
    const double all = static_cast<double>(bytes) * ranks;
    Times times;
    run_thread_ranks(ranks, [&](World& world) { measure(world, folder, bytes, repeats, times); });

    std::vector<char> block(size_t{64} << 20, 'x');
    uint32_t crc = 0;
    const double hashed = seconds_of([&] {
        for (int i = 0; i < 8; ++i) crc = crc32c(block.data(), block.size(), crc);
    });
    std::vector<char> copy(block.size());
    const double copied = seconds_of([&] {
        for (int i = 0; i < 8; ++i) std::copy(block.begin(), block.end(), copy.begin());
    });
    const double blocks = 8.0 * static_cast<double>(block.size());
    std::printf("%zu MiB from %d ranks, medians of %d (crc %08x)\n", mib, ranks, repeats, crc);
    std::printf("plain write and fsync   %8.1f MB/s\n", rate(all, median(times.plain)));
    std::printf("save, waiting for it    %8.1f MB/s   %.0f%% of plain (median of the pairs)\n",
                rate(all, median(times.save)), 100 * median(times.share));
    std::printf("save, in the background %8.1f MB/s   %.0f%% of plain, after a pause of %.1f ms\n",
                rate(all, median(times.writing)), 100 * median(times.writing_share),
                1e3 * median(times.snapshot));
    std::printf("CRC-32C %.1f GB/s, copy %.1f GB/s: checksums take %.1f%% of a save's time\n",
                blocks / hashed / 1e9, blocks / copied / 1e9,
                100 * (static_cast<double>(bytes) / (blocks / hashed)) / median(times.save));
    return 0;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: bench_checkpoint FOLDER [MIB] [RANKS] [REPEATS]\n");
        return 2;
    }
    const auto number = [&](int i, int otherwise) {
        return argc > i ? std::atoi(argv[i]) : otherwise;
    };
    return trireme::run(argv[1], static_cast<size_t>(number(2, 512)), number(3, 2), number(4, 7));
}
