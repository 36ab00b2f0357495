#include "tests/bench/gpu_time_split.h"

#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <regex>
#include <stdexcept>
#include <utility>
#include <vector>

namespace trireme {

namespace {

constexpr size_t kBufferBytes = size_t{8} << 20;

struct Span {
    uint64_t begin, end;  // nanoseconds
    std::string name;
};

// CUPTI's callbacks carry no pointer of ours.
std::mutex spans_mutex;
std::vector<Span> spans;

void check(CUptiResult result, const char* what) {
    if (result == CUPTI_SUCCESS) return;
    const char* text = nullptr;
    cuptiGetResultString(result, &text);
    throw std::runtime_error(std::string("CUPTI: ") + what + ": " + (text ? text : "failed"));
}

void CUPTIAPI give_buffer(uint8_t** buffer, size_t* size, size_t* most_records) {
    *buffer = static_cast<uint8_t*>(std::aligned_alloc(64, kBufferBytes));
    *size = kBufferBytes;
    *most_records = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid_bytes) {
    const std::lock_guard lock(spans_mutex);
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
        switch (record->kind) {
            case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
                const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel9*>(record);
                spans.push_back({kernel->start, kernel->end, kernel->name});
                break;
            }
            case CUPTI_ACTIVITY_KIND_MEMCPY: {
                const auto* copy = reinterpret_cast<const CUpti_ActivityMemcpy5*>(record);
                spans.push_back({copy->start, copy->end, "copy"});
                break;
            }
            case CUPTI_ACTIVITY_KIND_MEMSET: {
                const auto* fill = reinterpret_cast<const CUpti_ActivityMemset4*>(record);
                spans.push_back({fill->start, fill->end, "fill"});
                break;
            }
            default:
                break;
        }
    }
    std::free(buffer);
}

// "void trireme::(anonymous namespace)::norm_kernel<float, 4>(float const*, long)" as
// "norm_kernel<float, 4>": symbols begin with what all of them share.
std::string readable_name(const std::string& symbol) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> text(
        abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), &std::free);
    std::string name = status == 0 && text ? text.get() : symbol;
    static const std::regex scopes(
        R"(^void |trireme::|\(anonymous namespace\)::|_GLOBAL__N__[^:]*::|cutlass::|cudnn::)");
    name = std::regex_replace(name, scopes, "");
    return name.substr(0, std::min<size_t>(name.find('('), 90));
}

bool contains_any(const std::string& name, std::initializer_list<const char*> parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const char* part) { return name.find(part) != std::string::npos; });
}

}  // namespace

void begin_gpu_records() {
    check(cuptiActivityRegisterCallbacks(give_buffer, take_buffer), "registering");
    for (const CUpti_ActivityKind kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                          CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET}) {
        check(cuptiActivityEnable(kind), "enabling");
    }
}

GpuTimeSplit end_gpu_records() {
    check(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "flushing");
    for (const CUpti_ActivityKind kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                          CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET}) {
        check(cuptiActivityDisable(kind), "disabling");
    }
    std::vector<Span> all;
    {
        const std::lock_guard lock(spans_mutex);
        all = std::exchange(spans, {});
    }
    std::sort(all.begin(), all.end(),
              [](const Span& a, const Span& b) { return a.begin < b.begin; });
    GpuTimeSplit split;
    uint64_t busy_until = all.empty() ? 0 : all.front().begin;
    for (const Span& span : all) {
        const double seconds = static_cast<double>(span.end - span.begin) * 1e-9;
        const bool is_attention =
            contains_any(span.name, {"attention", "sdpa", "flash", "fmha", "cudnn"});
        const bool is_matmul =
            contains_any(span.name, {"gemm", "nvjet", "cutlass", "xmma", "splitK"});
        double& part = is_attention ? split.attention_seconds
                       : is_matmul  ? split.matmul_seconds
                                    : split.other_seconds;
        part += seconds;
        if (is_attention && contains_any(span.name, {"trireme"})) {
            split.own_attention_seconds += seconds;
        }
        split.seconds_of[readable_name(span.name)] += seconds;
        if (span.begin > busy_until) {
            split.gap_seconds += static_cast<double>(span.begin - busy_until) * 1e-9;
        }
        busy_until = std::max(busy_until, span.end);
    }
    if (!all.empty()) {
        split.total_seconds = static_cast<double>(busy_until - all.front().begin) * 1e-9;
    }
    split.kernels = static_cast<int64_t>(all.size());
    return split;
}

}  // namespace trireme
