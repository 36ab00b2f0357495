#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "app/build_info.h"
#include "app/config.h"
#include "app/peak_rate.h"
#include "app/presets.h"
#include "core/cuda/cuda_device.h"
#include "core/cuda/driver_environment.h"
#include "core/cuda/matmul.h"
#include "core/processors.h"
#include "model/engine.h"
#include "model/flops.h"
#include "tests/bench/gpu_time_split.h"

// Training speed on one GPU: lines of JSON, of which the last one says most. See scripts/bench-gpu.
//
//   bench_gpu ceilings
//   bench_gpu train PRESET LAYERS BATCH SEQUENCE MICRO_BATCHES STEPS    LAYERS 0: all

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

// Seconds of one call of `work` among many that are enqueued one behind the other.
template <typename Work>
double seconds_of(Device& device, int repeats, const Work& work) {
    for (int i = 0; i < 3; ++i) work();
    device.compute().synchronize();
    std::vector<double> seconds;
    for (int round = 0; round < 5; ++round) {
        const auto begin = Clock::now();
        for (int i = 0; i < repeats; ++i) work();
        device.compute().synchronize();
        seconds.push_back(seconds_since(begin) / repeats);
    }
    return median(seconds);
}

void fill_random(Device& device, const Tensor& tensor, const char* name) {
    std::vector<bf16> values(static_cast<size_t>(tensor.elements()));
    const PhiloxKey key = make_key(1, name);
    for (size_t i = 0; i < values.size(); i += 4) {
        const auto normals = philox_normals(key, 0, i / 4);
        for (size_t k = i; k < std::min(i + 4, values.size()); ++k)
            values[k] = bf16(normals[k - i]);
    }
    device.copy_to_device(tensor.data, values.data(), tensor.bytes());
    device.compute().synchronize();
}

nlohmann::ordered_json ceilings(CudaDevice& device) {
    constexpr int64_t kSize = 8192;
    constexpr int64_t kCopyBytes = int64_t{4} << 30;
    Tensor a, b, c, from, to;
    const Arena arena = make_arena(device, "ceilings", [&](Arena& at) {
        a = at.take(DType::bf16, {kSize, kSize});
        b = at.take(DType::bf16, {kSize, kSize});
        c = at.take(DType::bf16, {kSize, kSize});
        from = at.take(DType::u8, {kCopyBytes});
        to = at.take(DType::u8, {kCopyBytes});
    });
    // Random values: zeros draw less power and run at a higher clock.
    fill_random(device, a, "a");
    fill_random(device, b, "b");
    const double matmul = seconds_of(
        device, 20, [&] { device.ops().linear_forward(device.compute(), a, b, Tensor(), c); });
    const double copy =
        seconds_of(device, 10, [&] { device.compute().copy(to.data, from.data, to.bytes()); });
    return {{"device", device.description()},
            {"commit", build_commit()},
            {"matmul_tflops", 2.0 * kSize * kSize * kSize / matmul / 1e12},
            {"copy_bytes_per_second", 2.0 * static_cast<double>(kCopyBytes) / copy}};
}

ModelOptions model_of(const std::string& preset, int layers) {
    ModelOptions model;
    apply_preset(preset, model);
    if (model.kv_heads == 0) model.kv_heads = model.heads;
    if (model.head_dim == 0) model.head_dim = model.hidden / model.heads;
    if (model.ffn_hidden == 0) model.ffn_hidden = 4 * model.hidden;
    if (layers > 0) model.layers = layers;
    return model;
}

// How the GPU's time of a step divides, into `result`; why not, where CUPTI does not say.
template <typename Step>
void add_time_split(nlohmann::ordered_json& result, const Step& run_step) {
    GpuTimeSplit split;
    try {
        split = record_gpu_time(run_step);
    } catch (const std::exception& error) {
        result["gpu_seconds"] = error.what();
        return;
    }
    std::vector<std::pair<double, std::string>> kernels;
    for (const auto& [name, time] : split.seconds_of) kernels.emplace_back(time, name);
    std::sort(kernels.rbegin(), kernels.rend());
    nlohmann::ordered_json longest;
    for (size_t i = 0; i < std::min<size_t>(kernels.size(), 14); ++i) {
        longest[kernels[i].second] = kernels[i].first;
    }
    result["gpu_seconds"] = {{"attention", split.attention_seconds},
                             {"own_attention", split.own_attention_seconds},
                             {"matmul", split.matmul_seconds},
                             {"other", split.other_seconds},
                             {"gaps", split.gap_seconds},
                             {"total", split.total_seconds},
                             {"kernels", split.kernels}};
    result["longest_kernels_seconds"] = longest;
}

// Prints a line when the speed is known and another, the same with more, when the GPU's time has
// been divided: whatever happens meanwhile, the speed stays.
void train(CudaDevice& device, const std::string& preset, int layers, int64_t batch,
           int64_t sequence, int micro_batches, int steps, GraphUse graphs) {
    const ModelOptions model = model_of(preset, layers);
    const auto world = make_process_world();
    Mesh mesh(*world, {}, 1);
    const ModelContext context{.device = device,
                               .mesh = mesh,
                               .model = model,
                               .compute = DType::bf16,
                               .batch = batch,
                               .sequence = sequence,
                               .seed = 1};
    EngineOptions options;
    options.micro_batches = micro_batches;
    options.graphs = graphs;
    const auto start = Clock::now();
    Engine engine(context, options);
    const double start_seconds = seconds_since(start);
    std::vector<int32_t> tokens(static_cast<size_t>(batch * sequence));
    for (size_t i = 0; i < tokens.size(); ++i) {
        tokens[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(model.vocab_size));
    }
    int64_t step = 0;
    const auto run_step = [&] {
        return engine.step(++step, 1e-4, [&](int) { return HostMicroBatch{tokens, tokens, 0}; });
    };
    const auto warm_up = Clock::now();
    StepResult result;
    for (int i = 0; i < 3; ++i) result = run_step();
    const double warm_up_seconds = seconds_since(warm_up);
    const double first_loss = result.loss;
    std::vector<double> seconds;
    for (int i = 0; i < steps; ++i) {
        const auto begin = Clock::now();
        result = run_step();
        seconds.push_back(seconds_since(begin));
    }

    const double step_seconds = median(seconds);
    const double tokens_per_second =
        static_cast<double>(batch * sequence * micro_batches) / step_seconds;
    const double flops = tokens_per_second * flops_per_token(model, sequence);
    nlohmann::ordered_json memory;
    for (const auto& [label, bytes] : engine.memory()) memory[label] = bytes;
    nlohmann::ordered_json line{
        {"trainer", "trireme"},
        {"commit", build_commit()},
        {"preset", preset},
        {"layers", model.layers},
        {"parameters", count_parameters(model).total},
        {"batch", batch},
        {"sequence", sequence},
        {"micro_batches", micro_batches},
        {"graphs", engine.records_passes()},
        {"start_seconds", start_seconds},
        {"warm_up_seconds", warm_up_seconds},
        {"step_seconds", step_seconds},
        {"step_seconds_min", *std::min_element(seconds.begin(), seconds.end())},
        {"step_seconds_max", *std::max_element(seconds.begin(), seconds.end())},
        {"tokens_per_second", tokens_per_second},
        {"model_tflops", flops / 1e12},
        {"mfu", flops / peak_matmul_rate(device, DType::bf16)},
        {"peak_memory_bytes", device.peak_memory_bytes()},
        {"memory", memory},
        {"notice", device.take_notice()},
        {"first_loss", first_loss},
        {"last_loss", result.loss}};
    std::cout << line.dump() << std::endl;
    add_time_split(line, [&] {
        run_step();
        device.compute().synchronize();
    });
    std::cout << line.dump() << std::endl;
}

int run(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    // One process: all the machine's processors draw its initial values.
    const int threads = cpu_threads_per_rank(0, available_processors(), 1);
    CudaDevice device(0, {.tune_matmul = true}, threads);
    if (what == "ceilings" && argc == 2) {
        std::cout << ceilings(device).dump() << std::endl;
    } else if (what == "train" &&
               (argc == 8 || (argc == 9 && std::string_view(argv[8]) == "graphs"))) {
        train(device, argv[2], std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]),
              std::atoi(argv[6]), std::atoi(argv[7]),
              argc == 9 ? GraphUse::always : GraphUse::never);
        std::cerr << device.ops().matmul().describe_algorithms();
    } else {
        std::cerr << "usage: bench_gpu ceilings\n"
                     "       bench_gpu train PRESET LAYERS BATCH SEQUENCE MICRO_BATCHES STEPS "
                     "[graphs]\n";
        return 2;
    }
    return 0;
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
    trireme::make_driver_settings();
    try {
        return trireme::run(argc, argv);
    } catch (const trireme::Error& error) {
        std::cerr << "bench_gpu: " << error.what() << "\n";
        return static_cast<int>(error.code());
    } catch (const std::exception& error) {
        std::cerr << "bench_gpu: " << error.what() << "\n";
        return 70;
    }
}
