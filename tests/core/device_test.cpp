#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/cpu/amx_support.h"
#include "core/cpu/cpu_device.h"

using namespace trireme;

namespace {

class CountingSource final : public EventSource {
public:
    void host_wait(uint64_t ticket) override { waited_for = ticket; }
    bool done(uint64_t) override { return false; }
    uint64_t waited_for = 0;
};

// A processor where oneDNN's AMX works.
ProcessorFacts facts_with_amx() {
    ProcessorFacts facts;
    facts.amx_tile = facts.amx_bf16 = facts.amx_enabled = facts.amx_permitted = true;
    facts.avx512_bf16 = true;
    facts.amx_palettes = 1;
    return facts;
}

}  // namespace

TEST_CASE("cpu and automatic make a CPU device", "[core][device]") {
    for (Backend backend : {Backend::cpu, Backend::automatic}) {
        DeviceOptions options;
        options.backend = backend;
        options.threads = 3;
        const auto device = make_device(options, 0, 1);
        CHECK(device->backend() == Backend::cpu);
        CHECK(device->description().find("3 threads") != std::string::npos);
    }
}

TEST_CASE("cuda and negative threads are refused as configuration errors", "[core][device]") {
    DeviceOptions cuda;
    cuda.backend = Backend::cuda;
    DeviceOptions negative;
    negative.threads = -1;
    for (const DeviceOptions& options : {cuda, negative}) {
        try {
            make_device(options, 0, 1);
            FAIL("no error");
        } catch (const Error& error) {
            CHECK(error.code() == ExitCode::config);
        }
    }
}

TEST_CASE("device memory is aligned and zeroed, again after it was used", "[core][device]") {
    CpuDevice device(2);
    for (size_t bytes : {size_t{0}, size_t{1}, size_t{65}, size_t{3000001}}) {
        for (int round = 0; round < 2; ++round) {
            auto* memory = static_cast<unsigned char*>(device.allocate(bytes, "test"));
            REQUIRE(reinterpret_cast<uintptr_t>(memory) % 64 == 0);
            size_t nonzero = 0;
            for (size_t i = 0; i < bytes; ++i) nonzero += memory[i] != 0;
            CHECK(nonzero == 0);
            if (bytes > 0) std::memset(memory, 0xab, bytes);
            device.release(memory);
        }
    }
}

TEST_CASE("an impossible allocation is an error that says what every label holds",
          "[core][device]") {
    CpuDevice device(1);
    const size_t bytes = size_t{1} << 55;
    void* small = device.allocate(1000, "activations");
    void* large = device.allocate(70000, "parameters");
    void* more = device.allocate(24, "activations");
    CHECK(device.allocated_bytes() == 71024);
    try {
        device.release(device.allocate(bytes, "test"));
        FAIL("no error");
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::out_of_memory);
        const std::string message = error.what();
        INFO(message);
        CHECK(message.find(std::to_string(bytes)) != std::string::npos);
        const size_t first = message.find("parameters: 70000 bytes");
        const size_t second = message.find("activations: 1024 bytes");
        CHECK(first < second);
        CHECK(second != std::string::npos);
    }
    for (void* memory : {small, large, more}) device.release(memory);
    CHECK(device.allocated_bytes() == 0);
}

TEST_CASE("copies to and from the device keep the bytes", "[core][device]") {
    CpuDevice device(1);
    std::vector<char> from(257);
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i * 7);
    std::vector<char> to(from.size());
    void* memory = device.allocate(from.size(), "test");
    device.copy_to_device(memory, from.data(), from.size());
    device.copy_to_host(to.data(), memory, to.size());
    device.release(memory);
    CHECK(to == from);
}

TEST_CASE("the CPU stream waits for other sources and records complete events",
          "[core][device]") {
    CpuDevice device(1);
    CHECK(device.compute().record().source == nullptr);
    device.compute().wait(Event{});
    CountingSource source;
    device.compute().wait(Event{&source, 42});
    CHECK(source.waited_for == 42);
    device.compute().synchronize();
}

TEST_CASE("the matmul plan follows from the processor's facts", "[core][device][matmul]") {
    SECTION("working AMX is left to oneDNN") {
        const MatmulPlan plan = plan_matmul(facts_with_amx());
        CHECK_FALSE(plan.forbid_onednn_amx);
        CHECK(plan.bf16_matmul == Bf16Matmul::onednn);
        CHECK(plan.amx_attention);
    }
    SECTION("attention needs an instruction to round to bf16 beside the tiles") {
        ProcessorFacts facts = facts_with_amx();
        facts.avx512_bf16 = false;
        CHECK_FALSE(plan_matmul(facts).amx_attention);
    }
    SECTION("a hidden tile leaf keeps oneDNN off AMX, and ours is used") {
        ProcessorFacts facts = facts_with_amx();
        facts.amx_palettes = 0;
        const MatmulPlan plan = plan_matmul(facts);
        CHECK(plan.forbid_onednn_amx);
        CHECK(plan.bf16_matmul == Bf16Matmul::amx);
        CHECK(plan.amx_attention);
    }
    SECTION("without the kernel's permission nobody uses AMX") {
        ProcessorFacts facts = facts_with_amx();
        facts.amx_permitted = false;
        const MatmulPlan plan = plan_matmul(facts);
        CHECK(plan.forbid_onednn_amx);
        CHECK(plan.bf16_matmul == Bf16Matmul::convert);
        CHECK_FALSE(plan.amx_attention);
    }
    SECTION("a kernel that does not save tiles counts as no permission") {
        ProcessorFacts facts = facts_with_amx();
        facts.amx_enabled = false;
        CHECK(plan_matmul(facts).forbid_onednn_amx);
        CHECK(plan_matmul(facts).bf16_matmul == Bf16Matmul::convert);
    }
    SECTION("tiles for integers only do not multiply bf16") {
        ProcessorFacts facts = facts_with_amx();
        facts.amx_bf16 = false;
        CHECK_FALSE(plan_matmul(facts).amx_attention);
        CHECK(plan_matmul(facts).bf16_matmul == Bf16Matmul::convert);
    }
    SECTION("AVX512-BF16 without AMX is oneDNN's") {
        ProcessorFacts facts;
        facts.avx512_bf16 = true;
        CHECK_FALSE(plan_matmul(facts).amx_attention);
        CHECK_FALSE(plan_matmul(facts).forbid_onednn_amx);
        CHECK(plan_matmul(facts).bf16_matmul == Bf16Matmul::onednn);
    }
    SECTION("an older processor converts") {
        CHECK_FALSE(plan_matmul(ProcessorFacts{}).forbid_onednn_amx);
        CHECK(plan_matmul(ProcessorFacts{}).bf16_matmul == Bf16Matmul::convert);
    }
}
