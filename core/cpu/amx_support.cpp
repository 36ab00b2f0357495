#include "core/cpu/amx_support.h"

#include <oneapi/dnnl/dnnl.hpp>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace trireme {

MatmulPlan plan_matmul(const ProcessorFacts& facts) {
    MatmulPlan plan;
    const bool usable = facts.amx_tile && facts.amx_enabled && facts.amx_permitted;
    plan.forbid_onednn_amx = facts.amx_tile && !(usable && facts.amx_palettes > 0);
    plan.amx_attention = usable && facts.amx_bf16 && facts.avx512_bf16;
    if (usable && facts.amx_bf16) {
        plan.bf16_matmul = facts.amx_palettes > 0 ? Bf16Matmul::onednn : Bf16Matmul::amx;
    } else if (facts.avx512_bf16 && !facts.amx_tile) {
        plan.bf16_matmul = Bf16Matmul::onednn;
    }
    return plan;
}

std::string_view name_of(Bf16Matmul way) {
    switch (way) {
        case Bf16Matmul::onednn: return "oneDNN";
        case Bf16Matmul::amx: return "own AMX kernel";
        case Bf16Matmul::convert: return "conversion to f32";
    }
    return "?";
}

#if defined(__x86_64__)

ProcessorFacts read_processor_facts() {
    ProcessorFacts facts;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return facts;
    const bool xgetbv_usable = (c >> 27) & 1u;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        const unsigned subleaves = a;
        facts.amx_bf16 = (d >> 22) & 1u;
        facts.amx_tile = (d >> 24) & 1u;
        if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
            facts.avx512_bf16 = (a >> 5) & 1u;
        }
    }
    if (!facts.amx_tile) return facts;
    if (__get_cpuid_count(0x1D, 0, &a, &b, &c, &d)) facts.amx_palettes = a;
    if (xgetbv_usable) {
        unsigned low = 0, high = 0;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        facts.amx_enabled = (low >> 17 & 3u) == 3u;
    }
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), Linux 5.16.
    constexpr long kRequestPermission = 0x1023;
    constexpr long kTileData = 18;
    if (facts.amx_enabled) {
        facts.amx_permitted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
    }
    return facts;
}

#else

ProcessorFacts read_processor_facts() { return {}; }

#endif

const MatmulPlan& this_processor() {
    static const MatmulPlan plan = [] {
        const MatmulPlan made = plan_matmul(read_processor_facts());
        if (made.forbid_onednn_amx) dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16);
        return made;
    }();
    return plan;
}

}  // namespace trireme
