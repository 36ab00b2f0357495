#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "core/cpu/cpu_device.h"
#include "core/error.h"
#include "model/parameter_store.h"
#include "tests/model/training_support.h"

namespace trireme::test {

namespace {

// A processor with room for so many pieces of memory, which counts what is written into them.
class SmallDevice final : public CpuDevice {
public:
    explicit SmallDevice(int room) : CpuDevice(1), room_(room) {}

    void copy_to_device(void* device, const void* host, size_t bytes) override {
        ++writes_;
        CpuDevice::copy_to_device(device, host, bytes);
    }
    int taken() const { return taken_; }
    int writes() const { return writes_; }

protected:
    void* take_memory(size_t bytes, std::string& reason) override {
        if (taken_ == room_) {
            reason = "nothing is left";
            return nullptr;
        }
        ++taken_;
        return CpuDevice::take_memory(bytes, reason);
    }

private:
    const int room_;
    int taken_ = 0, writes_ = 0;
};

}  // namespace

TEST_CASE("an engine that does not fit says so before it draws a single value",
          "[initial_values]") {
    Scenario scenario;
    scenario.model = odd_model(Family::gpt2);  // which writes no table of positions either
    scenario.compute = GENERATE(DType::f32, DType::bf16);
    scenario.zero = GENERATE(1, 3);
    const auto make_on = [&](SmallDevice& device) {
        run_thread_ranks(1, [&](World& world) {
            Mesh mesh(world, {}, 1);
            const Engine engine(context_of(scenario, device, mesh), engine_options_of(scenario));
        });
    };
    SmallDevice ample(1000);
    make_on(ample);
    REQUIRE(ample.writes() > 0);
    for (int room = 0; room < ample.taken(); ++room) {
        CAPTURE(room);
        SmallDevice narrow(room);
        CHECK_THROWS_AS(make_on(narrow), Error);
        CHECK(narrow.writes() == 0);
    }
}

TEST_CASE("initial values do not depend on who computes them", "[initial_values]") {
    ParameterSpec spec;
    spec.name = "weight";
    spec.global = {407, 333};
    spec.box = {{100, 33}, {307, 257}};
    spec.init_std = 0.02f;
    const int64_t count = spec.box.elements();
    std::vector<float> alone(static_cast<size_t>(count));
    ParameterStore::initial_values(spec, 7, 0, count, alone.data(), 1);
    CHECK(alone.front() != alone.back());
    SECTION("on several threads") {
        std::vector<float> together(alone.size());
        ParameterStore::initial_values(spec, 7, 0, count, together.data(), 3);
        CHECK(together == alone);
    }
    SECTION("in pieces") {
        const int64_t begin = 40001;
        std::vector<float> piece(20003);
        ParameterStore::initial_values(spec, 7, begin, 20003, piece.data(), 2);
        CHECK(std::equal(piece.begin(), piece.end(), alone.begin() + begin));
    }
}

}  // namespace trireme::test
