#include "core/cpu/matmul.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <compare>
#include <cstdlib>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>

#include "core/cpu/amx_matmul.h"
#include "core/cpu/kernel_support.h"
#include "core/cpu/parallel_for.h"

namespace trireme {

namespace {

// Beyond this many shapes the primitives are made anew: generation with ever other lengths must
// not fill the memory.
constexpr size_t kMostPrimitives = 512;

dnnl::memory::data_type onednn_type(DType type) {
    TRIREME_CHECK(type == DType::f32 || type == DType::bf16, "a matmul operand of f32 or bf16");
    return type == DType::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

void check_onednn(dnnl_status_t status) {
    TRIREME_CHECK(status == dnnl_success, "oneDNN to run a matmul");
}

// oneDNN divides a product among as many threads as OpenMP says it would give the calling thread,
// and leaves the parts of those undone that OpenMP then does not give: where the environment limits
// them or lets their number follow the load.
void use_threads(int threads) {
    omp_set_dynamic(0);
    if (omp_get_max_active_levels() < 1) omp_set_max_active_levels(1);
    omp_set_num_threads(std::min(threads, omp_get_thread_limit()));
}

}  // namespace

// Memory that grows and is never given back, as the shapes of a run repeat.
class CpuMatmul::Scratch {
public:
    enum Use { kA, kB, kBias, kC, kOnednn, kUses };

    void* take(Use use, size_t bytes) {
        Block& block = blocks_[use];
        if (bytes > block.bytes) {
            constexpr size_t kAlignment = 4096;
            const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
            block.memory.reset(std::aligned_alloc(kAlignment, rounded));
            block.bytes = block.memory ? rounded : 0;
            if (!block.memory) {
                throw Error(ExitCode::out_of_memory, "cannot allocate " + std::to_string(rounded) +
                                                         " bytes of scratch memory for a matmul; "
                                                         "use a smaller micro-batch");
            }
        }
        return block.memory.get();
    }

    // The tensor itself when it is f32, else an f32 copy of it.
    Tensor as_f32(Use use, const Tensor& tensor, int threads) {
        if (!tensor || tensor.dtype == DType::f32) return tensor;
        const Tensor copy(take(use, static_cast<size_t>(tensor.elements()) * sizeof(float)),
                          DType::f32, tensor.shape);
        const bf16* from = tensor.as<bf16>();
        float* to = copy.as<float>();
        parallel_ranges(threads, tensor.elements(), 1 << 15, [=](int64_t begin, int64_t end) {
#pragma omp simd
            for (int64_t i = begin; i < end; ++i) to[i] = from[i];
        });
        return copy;
    }

    // The tensor itself when it is f32, else f32 memory of its shape.
    Tensor result_f32(const Tensor& c) {
        if (c.dtype == DType::f32) return c;
        const size_t bytes = static_cast<size_t>(c.elements()) * sizeof(float);
        return Tensor(take(kC, bytes), DType::f32, c.shape);
    }

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    struct Block {
        std::unique_ptr<void, Free> memory;
        size_t bytes = 0;
    };
    std::array<Block, kUses> blocks_;
};

// The primitives made so far, with the memory objects they are executed with.
class CpuMatmul::Onednn {
public:
    Onednn() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

    void multiply(const MatmulCall& call, Scratch& scratch) {
        Entry& entry = find(call);
        std::array<dnnl_exec_arg_t, 5> arguments;
        int count = 0;
        const auto pass = [&](int name, dnnl::memory& memory, void* data) {
            check_onednn(dnnl_memory_set_data_handle(memory.get(), data));
            arguments[static_cast<size_t>(count++)] = {name, memory.get()};
        };
        pass(DNNL_ARG_SRC, entry.a, call.a.data);
        pass(DNNL_ARG_WEIGHTS, entry.b, call.b.data);
        pass(DNNL_ARG_DST, entry.c, call.c.data);
        if (call.bias) pass(DNNL_ARG_BIAS, entry.bias, call.bias.data);
        if (entry.scratch_bytes > 0) {
            pass(DNNL_ARG_SCRATCHPAD, entry.scratch,
                 scratch.take(Scratch::kOnednn, entry.scratch_bytes));
        }
        // The C interface takes the arguments as they are; the C++ one copies them to a new vector.
        check_onednn(dnnl_primitive_execute(entry.matmul.get(), stream_.get(), count,
                                            arguments.data()));
        stream_.wait();
    }

    int64_t made() const { return made_; }

private:
    struct Key {
        int64_t m, n, k;
        bool a_transposed, b_transposed, accumulate, has_bias;
        DType a, b, bias, c;
        auto operator<=>(const Key&) const = default;
    };
    struct Entry {
        dnnl::matmul matmul;
        dnnl::memory a, b, bias, c, scratch;
        size_t scratch_bytes = 0;
    };

    Entry& find(const MatmulCall& call) {
        const Key key{call.m, call.n, call.k, call.a_transposed, call.b_transposed,
                      call.accumulate, static_cast<bool>(call.bias), call.a.dtype, call.b.dtype,
                      call.bias.dtype, call.c.dtype};
        const auto found = entries_.find(key);
        if (found != entries_.end()) return found->second;
        if (entries_.size() >= kMostPrimitives) entries_.clear();
        return entries_.emplace(key, make(call)).first->second;
    }

    // For f32 oneDNN 2.6 offers its brgemm kernels first, which halve their rate where rows of b
    // lie a multiple of 4 KiB apart (3072 columns: 100 against 220 Gflop/s on an AVX-512 core).
    // Its gemm kernels were as fast or faster in every shape of a GPT-2.
    dnnl::matmul::primitive_desc choose(const dnnl::matmul::desc& description,
                                        const dnnl::primitive_attr& attributes, bool f32) const {
        const dnnl::matmul::primitive_desc first(description, attributes, engine_);
        if (!f32) return first;
        dnnl::matmul::primitive_desc other(description, attributes, engine_);
        do {
            if (std::string_view(other.impl_info_str()).starts_with("gemm")) return other;
        } while (other.next_impl());
        return first;
    }

    Entry make(const MatmulCall& call) {
        using Tag = dnnl::memory::format_tag;
        using Desc = dnnl::memory::desc;
        const Desc a({call.m, call.k}, onednn_type(call.a.dtype),
                     call.a_transposed ? Tag::ba : Tag::ab);
        const Desc b({call.k, call.n}, onednn_type(call.b.dtype),
                     call.b_transposed ? Tag::ba : Tag::ab);
        const Desc c({call.m, call.n}, onednn_type(call.c.dtype), Tag::ab);
        dnnl::primitive_attr attributes;
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        if (call.accumulate) {
            dnnl::post_ops sum;
            sum.append_sum(1.0f);
            attributes.set_post_ops(sum);
        }
        Entry entry;
        Desc bias;
        if (call.bias) bias = Desc({1, call.n}, onednn_type(call.bias.dtype), Tag::ab);
        const dnnl::matmul::primitive_desc description = choose(
            call.bias ? dnnl::matmul::desc(a, b, bias, c) : dnnl::matmul::desc(a, b, c), attributes,
            call.a.dtype == DType::f32 && call.b.dtype == DType::f32);
        entry.matmul = dnnl::matmul(description);
        entry.a = dnnl::memory(a, engine_, DNNL_MEMORY_NONE);
        entry.b = dnnl::memory(b, engine_, DNNL_MEMORY_NONE);
        entry.c = dnnl::memory(c, engine_, DNNL_MEMORY_NONE);
        if (call.bias) entry.bias = dnnl::memory(bias, engine_, DNNL_MEMORY_NONE);
        const Desc scratch = description.scratchpad_desc();
        entry.scratch_bytes = scratch.get_size();
        if (entry.scratch_bytes > 0) {
            entry.scratch = dnnl::memory(scratch, engine_, DNNL_MEMORY_NONE);
        }
        ++made_;
        return entry;
    }

    dnnl::engine engine_;
    dnnl::stream stream_;
    std::map<Key, Entry> entries_;
    int64_t made_ = 0;
};

CpuMatmul::CpuMatmul(int threads) : CpuMatmul(threads, this_processor().bf16_matmul) {}

CpuMatmul::CpuMatmul(int threads, Bf16Matmul bf16_matmul)
    : threads_(threads), bf16_matmul_(bf16_matmul) {
    this_processor();  // before the engine exists
    onednn_ = std::make_unique<Onednn>();
    scratch_ = std::make_unique<Scratch>();
    amx_ = std::make_unique<AmxMatmul>(threads_);
}

CpuMatmul::~CpuMatmul() = default;

int64_t CpuMatmul::primitives_made() const { return onednn_->made(); }

void CpuMatmul::multiply(const MatmulCall& call) {
    TRIREME_CHECK(call.a.elements() == call.m * call.k && call.b.elements() == call.k * call.n &&
                      call.c.elements() == call.m * call.n &&
                      (!call.bias || call.bias.elements() == call.n),
                  "matmul operands of matching sizes");
    TRIREME_CHECK(!call.accumulate || (call.c.dtype == DType::f32 && !call.bias),
                  "accumulation into f32 and without bias");
    if (call.m == 0 || call.n == 0) return;
    TRIREME_CHECK(call.k > 0, "a matmul over at least one element");
    use_threads(threads_);
    const bool all_bf16 = call.a.dtype == DType::bf16 && call.b.dtype == DType::bf16;
    if (all_bf16 && bf16_matmul_ == Bf16Matmul::onednn) {
        onednn_->multiply(call, *scratch_);
    } else if (all_bf16 && bf16_matmul_ == Bf16Matmul::amx) {
        multiply_amx(call);
    } else {
        multiply_f32(call);
    }
}

void CpuMatmul::multiply_f32(const MatmulCall& call) {
    MatmulCall f32 = call;
    f32.a = scratch_->as_f32(Scratch::kA, call.a, threads_);
    f32.b = scratch_->as_f32(Scratch::kB, call.b, threads_);
    f32.bias = scratch_->as_f32(Scratch::kBias, call.bias, threads_);
    f32.c = scratch_->result_f32(call.c);
    onednn_->multiply(f32, *scratch_);
    round_result(f32.c, call.c);
}

void CpuMatmul::multiply_amx(const MatmulCall& call) {
    MatmulCall f32 = call;
    f32.bias = scratch_->as_f32(Scratch::kBias, call.bias, threads_);
    if (!AmxMatmul::in_one_pass(call.k)) f32.c = scratch_->result_f32(call.c);
    amx_->multiply(f32);
    round_result(f32.c, call.c);
}

void CpuMatmul::round_result(const Tensor& from, const Tensor& to) const {
    if (from.dtype == to.dtype) return;
    const float* values = from.as<float>();
    bf16* rounded = to.as<bf16>();
    parallel_ranges(threads_, to.elements(), 1 << 15, [=](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) store(rounded, i, values[i]);
    });
}

}  // namespace trireme
