#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/crc32c.h"
#include "parallel/checkpoint_folders.h"
#include "parallel/checkpoint_load.h"
#include "parallel/checkpoint_saver.h"

// A small program that saves and checks checkpoints whose contents follow from their step, for the
// fault suite: it is killed, refused and cut off from outside.
//
//   save_program save FOLDER FIRST LAST [keep=K] [variant=V] [threads=N] [background=0|1]
//       saves these steps from all ranks (of the launcher, or N threads); ends with the exit code
//       of the first save that fails
//   save_program check
//       for each folder on standard input a line of JSON: what loads, and whether it is right

namespace trireme {
namespace {

using Json = nlohmann::ordered_json;

struct Layout {
    const char* name;
    std::array<int64_t, 2> global;
    bool is_vector;
};

constexpr Layout kTensors[] = {
    {"w", {257, 24}, false}, {"moment", {263, 17}, false}, {"v", {1, 37}, true}};

float value_of(const Layout& tensor, int64_t step, int variant, int64_t element) {
    const std::string key = std::string(tensor.name) + " " + std::to_string(step) + " " +
                            std::to_string(variant) + " " + std::to_string(element);
    return static_cast<float>(crc32c(key.data(), key.size()) >> 8);
}

// This rank's rows of every tensor; the vector is the last rank's.
struct Part {
    std::vector<CheckpointPiece> pieces;
    std::vector<std::vector<float>> memory;

    Part(int rank, int ranks, int64_t step, int variant) {
        for (const Layout& tensor : kTensors) {
            const int64_t rows = tensor.global[0];
            const int64_t begin = tensor.is_vector ? 0 : rows * rank / ranks;
            const int64_t end =
                tensor.is_vector ? (rank == ranks - 1 ? 1 : 0) : rows * (rank + 1) / ranks;
            if (begin == end) continue;
            std::vector<float> values;
            for (int64_t i = begin * tensor.global[1]; i < end * tensor.global[1]; ++i) {
                values.push_back(value_of(tensor, step, variant, i));
            }
            memory.push_back(std::move(values));
            pieces.push_back({.tensor = tensor.name,
                              .global = tensor.global,
                              .is_vector = tensor.is_vector,
                              .box = {{begin, 0}, {end - begin, tensor.global[1]}},
                              .dtype = DType::f32,
                              .data = memory.back().data()});
        }
    }
};

struct SaveArguments {
    std::string folder;
    int64_t first = 0, last = 0;
    int keep = 3, variant = 0, threads = 0;
    bool background = true;
};

int save(World& world, const SaveArguments& arguments) {
    const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
    CheckpointSaver saver(world, *device,
                          {.folder = arguments.folder,
                           .in_background = arguments.background,
                           .keep = arguments.keep});
    for (int64_t step = arguments.first; step <= arguments.last; ++step) {
        CheckpointState state;
        state.step = step;
        state.extra["variant"] = std::to_string(arguments.variant);
        state.mesh.data = world.size();
        const Part part(world.rank(), world.size(), step, arguments.variant);
        saver.begin(std::move(state), part.pieces);
        const SaveReport report = *saver.wait();
        if (!report.error) continue;
        if (world.rank() == 0) std::fprintf(stderr, "%s\n", report.error->what());
        return static_cast<int>(report.error->code());
    }
    return 0;
}

// Throws std::runtime_error when a tensor is not what was saved then.
void check_contents(CheckpointReader& reader) {
    const int64_t step = reader.state().step;
    const int variant = std::stoi(reader.state().extra.at("variant"));
    for (const Layout& tensor : kTensors) {
        std::vector<float> values(static_cast<size_t>(tensor.global[0] * tensor.global[1]));
        reader.expect_shape(tensor.name, tensor.global);
        reader.read(tensor.name, {{0, 0}, tensor.global}, DType::f32, values.data());
        for (size_t i = 0; i < values.size(); ++i) {
            if (values[i] == value_of(tensor, step, variant, static_cast<int64_t>(i))) continue;
            throw std::runtime_error("wrong contents: " + reader.folder() + ", tensor " +
                                     tensor.name);
        }
    }
}

Json check(ControlGroup& group, const std::string& folder) {
    Json result = {{"folder", folder}, {"loaded", -1}, {"variant", -1}, {"valid", Json::array()}};
    try {
        const std::vector<std::string> folders = list_checkpoints(folder);
        for (const std::string& step : folders) {
            try {
                CheckpointReader reader(step);
                if (reader.verify().empty()) result["valid"].push_back(reader.state().step);
            } catch (const Error&) {
            }
        }
        const LoadChoice choice = load_first_sound(group, folders, [&](CheckpointReader& reader) {
            check_contents(reader);
            result["loaded"] = reader.state().step;
            result["variant"] = std::stoi(reader.state().extra.at("variant"));
        });
        result["skipped"] = choice.skipped;
    } catch (const std::exception& error) {
        result["loaded"] = -2;
        result["error"] = error.what();
    }
    return result;
}

int run_save(const SaveArguments& arguments) {
    if (arguments.threads == 0) {
        const std::unique_ptr<World> world = make_process_world();
        return save(*world, arguments);
    }
    std::mutex mutex;
    int code = 0;
    run_thread_ranks(arguments.threads, [&](World& world) {
        const int own = save(world, arguments);
        const std::lock_guard lock(mutex);
        code = std::max(code, own);
    });
    return code;
}

int run_check() {
    run_thread_ranks(1, [](World& world) {
        ControlGroup group(world, "check");
        for (std::string folder; std::getline(std::cin, folder);) {
            std::printf("%s\n", check(group, folder).dump().c_str());
            std::fflush(stdout);
        }
    });
    return 0;
}

int run(const std::vector<std::string>& words) {
    if (words.size() == 1 && words[0] == "check") return run_check();
    if (words.size() < 4 || words[0] != "save") {
        std::fprintf(stderr, "usage: see the head of save_program.cpp\n");
        return 2;
    }
    SaveArguments arguments{words[1], std::stoll(words[2]), std::stoll(words[3])};
    for (size_t i = 4; i < words.size(); ++i) {
        const size_t is = words[i].find('=');
        const std::string name = words[i].substr(0, is);
        const int value = std::stoi(words[i].substr(is + 1));
        if (name == "keep") arguments.keep = value;
        if (name == "variant") arguments.variant = value;
        if (name == "threads") arguments.threads = value;
        if (name == "background") arguments.background = value != 0;
    }
    return run_save(arguments);
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
    return trireme::run({argv + 1, argv + argc});
}
