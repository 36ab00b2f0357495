#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "app/presets.h"
#include "core/arena.h"
#include "core/cpu/matmul.h"
#include "model/engine.h"
#include "model/flops.h"

// GPT-2 124M on one process: tokens per second of whole training steps (forward, backward, clip,
// AdamW), and the share of the matmul rate measured in the same run. See scripts/bench-cpu.

namespace trireme {
namespace {

constexpr int64_t kMatmulSize = 2048;

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

template <typename Work>
double median_seconds(int warm_ups, int repeats, const Work& work) {
    std::vector<double> seconds;
    for (int i = 0; i < warm_ups + repeats; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
        if (i >= warm_ups) seconds.push_back(taken.count());
    }
    return median(seconds);
}

// FLOP/s of a square product of this type: the way this processor multiplies, or oneDNN's own.
double matmul_rate(Device& device, int threads, DType type, Bf16Matmul way) {
    MatmulCall call;
    call.m = call.n = call.k = kMatmulSize;
    const Arena arena = make_arena(device, "matmul rate", [&](Arena& a) {
        call.a = a.take(type, {kMatmulSize, kMatmulSize});
        call.b = a.take(type, {kMatmulSize, kMatmulSize});
        call.c = a.take(type, {kMatmulSize, kMatmulSize});
    });
    CpuMatmul matmul(threads, way);
    const double seconds = median_seconds(2, 7, [&] { matmul.multiply(call); });
    return 2.0 * kMatmulSize * kMatmulSize * kMatmulSize / seconds;
}

double step_seconds(World& world, Device& device, const ModelOptions& model, DType type,
                    int64_t batch, int64_t sequence, int steps) {
    Mesh mesh(world, {}, 1);
    const ModelContext context{.device = device,
                               .mesh = mesh,
                               .model = model,
                               .compute = type,
                               .batch = batch,
                               .sequence = sequence,
                               .seed = 1};
    Engine engine(context, {});
    std::vector<int32_t> tokens(static_cast<size_t>(batch * sequence));
    for (size_t i = 0; i < tokens.size(); ++i) {
        tokens[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(model.vocab_size));
    }
    int64_t step = 0;
    return median_seconds(2, steps, [&] {
        engine.step(++step, 1e-4, [&](int) { return HostMicroBatch{tokens, tokens, 0}; });
    });
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
    using namespace trireme;
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    const int64_t batch = 4;
    const auto world = make_process_world();
    const auto device = make_device({.backend = Backend::cpu, .threads = threads}, 0, 1);
    ModelOptions model;
    apply_preset("gpt2-124m", model);
    model.kv_heads = model.heads;
    model.head_dim = model.hidden / model.heads;
    model.ffn_hidden = 4 * model.hidden;
    model.tie_embeddings = true;
    std::printf("%s; GPT-2 124M, batch %lld\n", device->description().c_str(),
                static_cast<long long>(batch));
    std::printf("%-6s %8s %12s %12s %14s %14s %12s\n", "type", "sequence", "s/step", "tok/s",
                "model GFLOP/s", "matmul GFLOP/s", "share");
    for (const DType type : {DType::f32, DType::bf16}) {
        const Bf16Matmul way = this_processor().bf16_matmul;
        const double rate = matmul_rate(*device, threads, type, way);
        // oneDNN has no bf16 products for processors without AVX-512.
        const double onednn = way == Bf16Matmul::convert
                                  ? rate
                                  : matmul_rate(*device, threads, type, Bf16Matmul::onednn);
        for (const int64_t sequence : {64, 1024}) {
            const double seconds =
                step_seconds(*world, *device, model, type, batch, sequence, sequence > 512 ? 3 : 9);
            const double tokens_per_second = static_cast<double>(batch * sequence) / seconds;
            const double flops = tokens_per_second * flops_per_token(model, sequence);
            std::printf(
                "%-6s %8lld %12.3f %12.1f %14.1f %14.1f %11.1f%%   (oneDNN alone %.1f: "
                "%.1f%%)\n",
                type == DType::f32 ? "fp32" : "bf16", static_cast<long long>(sequence), seconds,
                tokens_per_second, flops / 1e9, rate / 1e9, 100 * flops / rate, onednn / 1e9,
                100 * flops / onednn);
            std::fflush(stdout);
        }
    }
    return 0;
}
