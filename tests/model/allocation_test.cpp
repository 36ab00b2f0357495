#include <catch2/catch.hpp>

#include <link.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "tests/model/training_support.h"

// Sanitizers replace malloc themselves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)

namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};
std::atomic<uintptr_t> onednn_begin{0}, onednn_end{0};

// oneDNN allocates some small objects whenever it executes a primitive, which its interface gives
// no way around. What its own code asks for is not counted.
void count(const void* caller) {
    if (!counting.load(std::memory_order_relaxed)) return;
    const uintptr_t address = reinterpret_cast<uintptr_t>(caller);
    if (address >= onednn_begin && address < onednn_end) return;
    allocations.fetch_add(1, std::memory_order_relaxed);
}

void find_onednn() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void*) {
            if (!std::strstr(info->dlpi_name, "libdnnl")) return 0;
            for (int i = 0; i < info->dlpi_phnum; ++i) {
                const auto& segment = info->dlpi_phdr[i];
                if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
                onednn_begin = info->dlpi_addr + segment.p_vaddr;
                onednn_end = onednn_begin + segment.p_memsz;
            }
            return 1;
        },
        nullptr);
}

}  // namespace

extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t n, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) noexcept {
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

void* calloc(size_t n, size_t size) noexcept {
    count(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void* realloc(void* memory, size_t size) noexcept {
    count(__builtin_return_address(0));
    return __libc_realloc(memory, size);
}

void* aligned_alloc(size_t alignment, size_t size) noexcept {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

int posix_memalign(void** memory, size_t alignment, size_t size) noexcept {
    count(__builtin_return_address(0));
    void* found = __libc_memalign(alignment, size);
    if (!found) return ENOMEM;
    *memory = found;
    return 0;
}

}  // extern "C"

// The other forms of new come here or to aligned_alloc, and all forms of delete to free.
void* operator new(size_t size) {
    count(__builtin_return_address(0));
    void* memory = __libc_malloc(size);
    if (!memory) throw std::bad_alloc();
    return memory;
}

namespace trireme::test {

namespace {

// Allocations of all ranks in `steps` steps, after `warm_up` steps.
int64_t allocations_of(const Scenario& scenario, int warm_up, int steps, int threads) {
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = threads}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        Engine engine(context_of(scenario, *device, mesh), engine_options_of(scenario));
        TokenSource source(scenario, mesh.at().data, scenario.mesh.data);
        for (int step = 1; step <= warm_up + steps; ++step) {
            if (step == warm_up + 1) {
                mesh.all().barrier();
                if (world.rank() == 0) {
                    find_onednn();
                    allocations = 0;
                    counting = true;
                }
                mesh.all().barrier();
            }
            engine.step(step, scenario.optimizer.lr, [batches = &source.step(step)](int i) {
                return (*batches)[static_cast<size_t>(i)];
            });
        }
        mesh.all().barrier();
        if (world.rank() == 0) counting = false;
        mesh.all().barrier();
    });
    return allocations;
}

Scenario scenario_of(Family family, DType compute, const MeshShape& mesh) {
    Scenario scenario;
    scenario.model = odd_model(family);
    scenario.compute = compute;
    scenario.mesh = mesh;
    scenario.sequence_parallel = mesh.tensor > 1;
    scenario.pieces = family == Family::gpt2 ? 2 : 4;  // whole sequences, and less
    scenario.micro_batch = 2;
    return scenario;
}

}  // namespace

TEST_CASE("the counter of allocations counts", "[model][allocation]") {
    counting = true;
    allocations = 0;
    auto value = std::make_unique<volatile int>(1);
    void* aligned = std::aligned_alloc(64, 128);
    counting = false;
    std::free(aligned);
    CHECK(allocations == 2);
}

TEST_CASE("a step on two compute threads allocates nothing after the second",
          "[model][allocation]") {
    Scenario scenario = scenario_of(Family::llama, DType::f32, {});
    scenario.micro_batch = 8;  // one a step
    CHECK(allocations_of(scenario, 2, 1, 2) == 0);
}

TEST_CASE("a step allocates nothing after the second", "[model][allocation]") {
    for (const Family family : {Family::gpt2, Family::llama}) {
        for (const DType compute : {DType::f32, DType::bf16}) {
            for (const MeshShape& mesh :
                 {MeshShape{}, MeshShape{.tensor = 2, .context = 1, .data = 1, .pipeline = 2},
                  MeshShape{.tensor = 1, .context = 1, .data = 2, .pipeline = 2},
                  MeshShape{.tensor = 2, .context = 1, .data = 2, .pipeline = 1}}) {
                const Scenario scenario = scenario_of(family, compute, mesh);
                INFO(scenario.name() << ", " << name_of(compute));
                CHECK(allocations_of(scenario, 2, 5, 1) == 0);
            }
            for (const int zero : {2, 3}) {
                Scenario scenario = scenario_of(family, compute, {.data = 2, .pipeline = 2});
                scenario.zero = zero;
                INFO(scenario.name() << ", " << name_of(compute));
                CHECK(allocations_of(scenario, 2, 5, 1) == 0);
            }
        }
    }
}

}  // namespace trireme::test

#endif
