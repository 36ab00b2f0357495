#include <catch2/catch.hpp>
#include <fstream>
#include <iostream>
#include <iterator>

#include "tests/cuda_code/kernel_rules.h"

using namespace trireme;

namespace {

KernelCode good_kernel() {
    KernelCode kernel;
    kernel.name = "gelu_forward_kernel<bf16, 8>";
    kernel.registers = 32;
    kernel.most_threads = 256;
    kernel.global.loads_of_16_bytes = kernel.global.stores_of_16_bytes = 1;
    return kernel;
}

}  // namespace

TEST_CASE("the machine code of every kernel keeps the rules", "[cuda_code]") {
    std::ifstream file(TRIREME_CORE_LIBRARY, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const std::vector<KernelCode> kernels = kernels_in(bytes, 90);
    std::cout << table_of(kernels);
    // Far fewer would mean that images are no longer found in the library.
    CHECK(kernels.size() > 100);
    for (const KernelCode& kernel : kernels) {
        // No kernel is as short, and none keeps all in one register.
        CHECK(kernel.instructions > 2);
        CHECK(kernel.registers > 1);
        for (const std::string& problem : problems_of(kernel)) FAIL_CHECK(problem);
    }
}

TEST_CASE("a kernel that breaks a rule is reported", "[cuda_code]") {
    KernelCode kernel = good_kernel();
    REQUIRE(problems_of(kernel).empty());
    SECTION("a stack") {
        kernel.stack_bytes = 16;
    }
    SECTION("local memory") {
        kernel.local_accesses = 1;
    }
    SECTION("narrow loads") {
        kernel.global.loads_of_16_bytes = 0;
    }
    SECTION("narrow stores") {
        kernel.global.stores_of_16_bytes = 0;
    }
    SECTION("packs taken apart") {
        kernel.split_accesses = 3;
    }
    SECTION("too many registers") {
        kernel.registers = 72;
    }
    SECTION("too much shared memory") {
        kernel.shared_bytes = (48 << 10) + 16;
    }
    SECTION("products and sums fused by the compiler") {
        kernel.name = "residual_add_kernel<bf16, 8, true>";
        kernel.fused_multiply_adds = 1;
    }
    SECTION("no rule") {
        kernel.name = "unknown_kernel<bf16, 8>";
    }
    CHECK(problems_of(kernel).size() == 1);
}

TEST_CASE("single elements need no wide accesses, tiles may spill a little", "[cuda_code]") {
    KernelCode kernel = good_kernel();
    kernel.name = "gelu_forward_kernel<bf16, 1>";
    kernel.global = {};
    CHECK(problems_of(kernel).empty());
    kernel.name = "attention_forward_kernel<bf16, 8, 2, true>";
    kernel.global.loads_of_16_bytes = 8;
    kernel.fused_multiply_adds = 500;
    kernel.stack_bytes = 40;
    kernel.local_accesses = 20;
    CHECK(problems_of(kernel).empty());
    kernel.stack_bytes = 400;
    CHECK(problems_of(kernel).size() == 1);
    kernel.stack_bytes = 0;
    kernel.fused_multiply_adds = 0;
    CHECK(problems_of(kernel).size() == 1);
    kernel.name = "tensor_core_attention_kernel<64, true, false>";
    kernel.global.stores_of_16_bytes = 4;
    CHECK(problems_of(kernel).size() == 1);
    kernel.tensor_core_products = 64;
    CHECK(problems_of(kernel).empty());
}

TEST_CASE("the threads that a multiprocessor holds follow from registers and shared memory",
          "[cuda_code]") {
    KernelCode kernel = good_kernel();
    CHECK(resident_threads(kernel) == 2048);
    kernel.registers = 33;  // counted by eights
    CHECK(resident_threads(kernel) == 1536);
    kernel.shared_bytes = 40 << 10;
    CHECK(resident_threads(kernel) == 5 * 256);
    kernel.most_threads = 1024;
    CHECK(resident_threads(kernel) == 1024);
    kernel.registers = 72;  // cannot be launched at all
    CHECK(resident_threads(kernel) == 0);
}

TEST_CASE("a kernel is named without what all have in common", "[cuda_code]") {
    CHECK(short_name("void trireme::(anonymous namespace)::adamw_kernel<trireme::bf16, 4>(float "
                     "const*, float)") == "adamw_kernel<bf16, 4>");
    CHECK(short_name("trireme::(anonymous namespace)::empty_kernel()") == "empty_kernel");
}

TEST_CASE("a file that holds no device image has no kernels", "[cuda_code]") {
    CHECK(kernels_in("", 90).empty());
    std::string cut("\177ELF\2\1\1", 7);
    CHECK(kernels_in(cut, 90).empty());
    // An image's head alone, with sections said to lie beyond the file's end.
    cut.resize(64, '\0');
    cut[18] = static_cast<char>(190);
    cut[49] = 90;
    cut[40] = cut[44] = 127;
    cut[58] = 64;
    cut[60] = 3;
    CHECK(kernels_in(cut, 90).empty());
}
