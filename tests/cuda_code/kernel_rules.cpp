#include "tests/cuda_code/kernel_rules.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <string_view>

namespace trireme {

namespace {

enum Wide { kNothing = 0, kLoads = 1, kStores = 2, kBoth = 3 };

// For kernels whose name begins with `prefix`; the first of them counts. The accesses are asked of
// instances with packs: those whose first number among the template arguments is not 1.
struct KernelRule {
    std::string_view prefix;
    Wide wide;
    int64_t most_stack_bytes;
    const char* reason;  // why less than both, or a stack
};

// A tile's registers are spilled once for each 64 x 64 products, beside 64 times as many
// instructions; the loops over the products use none of them.
constexpr int64_t kTileStack = 192;
constexpr char kTileReason[] = "bound by arithmetic; some registers are put aside for a tile";

// With 255 registers at most, two blocks of four warps have room on a multiprocessor.
constexpr char kTensorCoreReason[] = "bound by arithmetic of tensor cores; as other tiles";

constexpr KernelRule kRules[] = {
    {"adamw_kernel<", kBoth, 0, ""},
    {"add_columns_kernel", kNothing, 0, "sums of blocks, a hundredth of what was read"},
    {"add_kernel<float, bf16", kLoads, 0, "stores of 8 bytes beside loads of 16"},
    {"add_kernel<bf16, float", kBoth, 0, ""},
    {"add_kernel<", kBoth, 0, ""},
    {"add_partials_kernel", kNothing, 0, "sums of blocks, a hundredth of what was read"},
    {"add_partials_of_runs_kernel<", kBoth, 0, ""},
    {"add_positions_kernel<", kBoth, 0, ""},
    {"attention_delta_kernel<", kLoads, 0, "stores one number a row"},
    {"attention_dkeys_kernel<float", kBoth, kTileStack, kTileReason},
    {"attention_dkeys_kernel<", kLoads, kTileStack, kTileReason},
    {"attention_dqueries_kernel<float", kBoth, kTileStack, kTileReason},
    {"attention_dqueries_kernel<", kLoads, kTileStack, kTileReason},
    {"attention_forward_kernel<float", kBoth, kTileStack, kTileReason},
    {"attention_forward_kernel<", kLoads, kTileStack, kTileReason},
    {"clip_scale_kernel", kNothing, 0, "one number"},
    {"column_sum_kernel<", kLoads, 0, "stores a sum for many rows"},
    {"convert_kernel<float, bf16", kLoads, 0, "stores of 8 bytes beside loads of 16"},
    {"convert_kernel<bf16, float", kStores, 0, "loads of 8 bytes beside stores of 16"},
    {"dropout_kernel<", kBoth, 0, ""},
    {"empty_kernel", kNothing, 0, "does nothing"},
    {"gather_rows_kernel<", kBoth, 0, ""},
    {"gelu_backward_kernel<", kBoth, 0, ""},
    {"gelu_forward_kernel<", kBoth, 0, ""},
    {"head_norm_backward_kernel<", kBoth, 0, ""},
    {"head_norm_forward_kernel<", kBoth, 0, ""},
    {"join_heads_kernel<", kBoth, 0, ""},
    {"logits_gradient_kernel<bf16", kLoads, 0, "stores of 8 bytes beside loads of 16"},
    {"logits_gradient_kernel<float", kBoth, 0, ""},
    {"loss_kernel", kNothing, 0, "one number a row"},
    {"norm_backward_kernel<", kBoth, 0, ""},
    {"norm_backward_long_kernel<", kBoth, 0, ""},
    {"norm_forward_kernel<", kBoth, 0, ""},
    {"partial_sum_kernel<", kLoads, 0, "stores one number a block"},
    {"position_rows_kernel", kNothing, 0, "two numbers a row"},
    {"residual_add_kernel<", kBoth, 0, ""},
    {"residual_norm_kernel<", kBoth, 0, ""},
    {"rotate_kernel<", kBoth, 0, ""},
    {"row_exp_kernel<", kBoth, 0, ""},
    {"row_max_kernel<", kLoads, 0, "stores one number a row"},
    {"split_heads_kernel<", kBoth, 0, ""},
    {"sum_positions_kernel<", kBoth, 0, ""},
    {"sum_runs_kernel<", kBoth, 0, ""},
    {"swiglu_backward_kernel<", kBoth, 0, ""},
    {"swiglu_forward_kernel<", kBoth, 0, ""},
    {"tensor_core_attention_dkeys_kernel<", kBoth, kTileStack, kTensorCoreReason},
    {"tensor_core_attention_dqueries_kernel<", kBoth, kTileStack, kTensorCoreReason},
    {"tensor_core_attention_kernel<", kBoth, kTileStack, kTensorCoreReason},
    {"token_rows_kernel", kNothing, 0, "two numbers a row"},
};

// Divisions, roots and exponentials are made of fused instructions; these kernels have none of
// them, so that a fused instruction there is one that the compiler made of a product and a sum.
constexpr std::string_view kWithoutFused[] = {"residual_add_kernel<", "dropout_kernel<",
                                              "rotate_kernel<"};

// What a launch without bounds uses.
constexpr int kThreadsWithoutBounds = 256;
constexpr int64_t kMostStaticShared = 48 << 10;
// Of the 2048 that a multiprocessor takes: with fewer, memory-bound kernels have too few accesses
// under way. Kernels bound by arithmetic keep registers instead.
constexpr int kLeastResident = 1024;
constexpr int kLeastResidentOfTiles = 256;

const KernelRule* rule_of(const KernelCode& kernel) {
    for (const KernelRule& rule : kRules) {
        if (kernel.name.rfind(rule.prefix, 0) == 0) return &rule;
    }
    return nullptr;
}

bool is_tile(const KernelRule& rule) {
    return rule.reason == kTileReason || rule.reason == kTensorCoreReason;
}

// Elements of an access: the first number among the template arguments, else 1.
int pack_of(const std::string& name) {
    for (size_t at = name.find('<'); at < name.size(); ++at) {
        const bool begins = name[at] == '<' || name[at] == ' ';
        if (begins && at + 1 < name.size() && std::isdigit(name[at + 1])) {
            return std::atoi(name.c_str() + at + 1);
        }
    }
    return 1;
}

int threads_of(const KernelCode& kernel) {
    return kernel.most_threads > 0 ? kernel.most_threads : kThreadsWithoutBounds;
}

std::string line(const char* format, auto... values) {
    char text[400];
    std::snprintf(text, sizeof text, format, values...);
    return text;
}

}  // namespace

int resident_threads(const KernelCode& kernel) {
    constexpr int kRegisters = 65536, kMostThreads = 2048, kMostBlocks = 32;
    constexpr int64_t kShared = 227 << 10;
    const int threads = threads_of(kernel);
    const int of_thread = (std::max(kernel.registers, 1) + 7) / 8 * 8;
    const int by_registers = kRegisters / (of_thread * threads);
    const auto by_shared = static_cast<int>(kShared / (kernel.shared_bytes + kReservedShared));
    return std::min({by_registers, by_shared, kMostThreads / threads, kMostBlocks}) * threads;
}

std::vector<std::string> problems_of(const KernelCode& kernel) {
    const char* name = kernel.name.c_str();
    const KernelRule* rule = rule_of(kernel);
    if (!rule) {
        return {line("%s: no rule; add one to tests/cuda_code/kernel_rules.cpp", name)};
    }
    std::vector<std::string> problems;
    if (kernel.stack_bytes > rule->most_stack_bytes) {
        problems.push_back(line(
            "%s: a stack of %d bytes, allowed %d: registers are spilled or an "
            "array is indexed at run time",
            name, static_cast<int>(kernel.stack_bytes), static_cast<int>(rule->most_stack_bytes)));
    }
    if (kernel.local_accesses > 0 && rule->most_stack_bytes == 0) {
        problems.push_back(line("%s: %d accesses to local memory", name, kernel.local_accesses));
    }
    if (pack_of(kernel.name) > 1) {
        if ((rule->wide & kLoads) && kernel.global.loads_of_16_bytes == 0) {
            problems.push_back(line("%s: no 16-byte load from global memory", name));
        }
        if ((rule->wide & kStores) && kernel.global.stores_of_16_bytes == 0) {
            problems.push_back(line("%s: no 16-byte store to global memory", name));
        }
        // A pair may be two numbers that happen to be neighbours; tiles read some of each row.
        if (kernel.split_accesses > 1 && !is_tile(*rule)) {
            problems.push_back(
                line("%s: %d narrow accesses side by side: the compiler took packs "
                     "apart",
                     name, kernel.split_accesses));
        }
    }
    if (kernel.shared_bytes > kMostStaticShared) {
        problems.push_back(line("%s: %d bytes of static shared memory", name,
                                static_cast<int>(kernel.shared_bytes)));
    }
    for (const std::string_view prefix : kWithoutFused) {
        if (kernel.name.rfind(prefix, 0) == 0 && kernel.fused_multiply_adds > 0) {
            problems.push_back(
                line("%s: %d fused multiply-adds that nobody asked for: results "
                     "depend on what the compiler fuses",
                     name, kernel.fused_multiply_adds));
        }
    }
    if (rule->reason == kTileReason && kernel.fused_multiply_adds < 256) {
        problems.push_back(line("%s: %d fused multiply-adds in the products of tiles", name,
                                kernel.fused_multiply_adds));
    }
    if (rule->reason == kTensorCoreReason && kernel.tensor_core_products < 64) {
        problems.push_back(line("%s: %d products of tensor cores in those of tiles", name,
                                kernel.tensor_core_products));
    }
    const int least = is_tile(*rule) ? kLeastResidentOfTiles : kLeastResident;
    if (resident_threads(kernel) < least) {
        problems.push_back(
            line("%s: %d registers for blocks of %d threads leave a multiprocessor "
                 "%d threads, expected %d",
                 name, kernel.registers, threads_of(kernel), resident_threads(kernel), least));
    }
    return problems;
}

std::string table_of(const std::vector<KernelCode>& kernels) {
    std::string table =
        line("%-66s %4s %5s %7s %6s %5s %5s %9s %7s %5s %5s\n", "kernel", "regs", "block",
             "threads", "shared", "stack", "local", "16B ld/st", "other", "fused", "all");
    for (const KernelCode& k : kernels) {
        table +=
            line("%-66s %4d %5d %7d %6d %5d %5d %5d/%-3d %3d/%-3d %5d %5d\n", k.name.c_str(),
                 k.registers, k.most_threads, resident_threads(k), static_cast<int>(k.shared_bytes),
                 static_cast<int>(k.stack_bytes), k.local_accesses, k.global.loads_of_16_bytes,
                 k.global.stores_of_16_bytes, k.global.other_loads, k.global.other_stores,
                 k.fused_multiply_adds, k.instructions);
    }
    return table;
}

}  // namespace trireme
