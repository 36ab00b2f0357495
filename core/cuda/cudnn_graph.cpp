#include "core/cuda/cudnn_graph.h"

#include <cudnn.h>
#include <cudnn_frontend.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <vector>

#include "core/error.h"

namespace trireme {

namespace {

namespace fe = cudnn_frontend;
using TensorNode = std::shared_ptr<fe::graph::Tensor_attributes>;

// Names of tensors in the graphs.
enum Uid : int64_t { kQueries = 1, kKeys, kValues, kOut, kLse, kDout, kDqueries, kDkeys, kDvalues };

// cuDNN has no kernels for a graph; its words.
struct Refused {
    std::string message;
};

// Statuses that cuDNN names like those of a graph that it does not support, though it is the
// machine that lacks something.
constexpr std::array kLacking = {
    "NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER", "NOT_SUPPORTED_INCOMPATIBLE_CUDART",
    "NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING", "NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE"};

bool contains(const std::string& message, const char* part) {
    return message.find(part) != std::string::npos;
}

void accept(const fe::error_t& status, const char* what) {
    if (status.is_good()) return;
    const std::string& message = status.err_msg;
    if (std::any_of(kLacking.begin(), kLacking.end(),
                    [&](const char* problem) { return contains(message, problem); })) {
        throw Error(ExitCode::config,
                    std::string("cuDNN cannot be used on this machine (") + what + "): " + message +
                        "; install the driver and the libraries that this cuDNN needs, NVRTC "
                        "among them");
    }
    switch (status.code) {
        case fe::error_code_t::GRAPH_NOT_SUPPORTED:
        case fe::error_code_t::HEURISTIC_QUERY_FAILED:
        case fe::error_code_t::GRAPH_EXECUTION_PLAN_CREATION_FAILED:
            throw Refused{message.empty() ? "no reason given" : message};
        default:
            break;
    }
    if (contains(message, "NOT_SUPPORTED")) throw Refused{message};
    throw Error(ExitCode::internal, std::string("cuDNN, ") + what + ": " + message);
}

std::string name_of(AttentionPass pass, const AttentionShape& s) {
    return std::string("cuDNN attention ") +
           (pass == AttentionPass::forward ? "forward" : "backward") + " of batch " +
           std::to_string(s.batch) + ", sequence " + std::to_string(s.sequence) + ", " +
           std::to_string(s.heads) + " heads, " + std::to_string(s.kv_heads) +
           " key/value heads of " + std::to_string(s.head_dim);
}

void check_cudnn(cudnnStatus_t status, const char* what) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    throw Error(ExitCode::internal, std::string(what) + ": " + cudnnGetErrorString(status));
}

// Tensors of a graph. All are [batch, heads, sequence, head_dim] to cuDNN, with strides that say
// how they really lie.
class Tensors {
public:
    explicit Tensors(const AttentionShape& shape) : s_(shape) {}

    // Heads in packed rows, like those of qkv.
    TensorNode packed(const TensorNode& node, Uid uid, int heads) const {
        const int64_t row = static_cast<int64_t>(s_.heads + 2 * s_.kv_heads) * s_.head_dim;
        return describe(node, uid, fe::DataType_t::BFLOAT16, heads, s_.head_dim,
                        {s_.sequence * row, s_.head_dim, row, 1});
    }
    TensorNode output(const TensorNode& node, Uid uid) const {
        const int64_t row = static_cast<int64_t>(s_.heads) * s_.head_dim;
        return describe(node, uid, fe::DataType_t::BFLOAT16, s_.heads, s_.head_dim,
                        {s_.sequence * row, s_.head_dim, row, 1});
    }
    // cuDNN's "stats": the natural log-sum-exp of the scaled scores.
    TensorNode lse(const TensorNode& node) const {
        return describe(node, kLse, fe::DataType_t::FLOAT, s_.heads, 1,
                        {s_.heads * s_.sequence, s_.sequence, 1, 1});
    }

private:
    TensorNode describe(const TensorNode& node, Uid uid, fe::DataType_t type, int64_t heads,
                        int64_t cols, const std::vector<int64_t>& strides) const {
        node->set_uid(uid).set_data_type(type);
        node->set_dim({s_.batch, heads, s_.sequence, cols}).set_stride(strides);
        return node;
    }

    const AttentionShape& s_;
};

void add_forward(fe::graph::Graph& graph, const AttentionShape& s) {
    const Tensors tensors(s);
    const auto input = [&] { return graph.tensor(fe::graph::Tensor_attributes()); };
    const auto [out, lse] = graph.sdpa(tensors.packed(input(), kQueries, s.heads),
                                       tensors.packed(input(), kKeys, s.kv_heads),
                                       tensors.packed(input(), kValues, s.kv_heads),
                                       fe::graph::SDPA_attributes()
                                           .set_name("attention")
                                           .set_generate_stats(true)
                                           .set_causal_mask(true)
                                           .set_attn_scale(s.scale));
    tensors.output(out, kOut)->set_output(true);
    tensors.lse(lse)->set_output(true);
}

void add_backward(fe::graph::Graph& graph, const AttentionShape& s) {
    const Tensors tensors(s);
    const auto input = [&] { return graph.tensor(fe::graph::Tensor_attributes()); };
    const auto [dqueries, dkeys, dvalues] = graph.sdpa_backward(
        tensors.packed(input(), kQueries, s.heads), tensors.packed(input(), kKeys, s.kv_heads),
        tensors.packed(input(), kValues, s.kv_heads), tensors.output(input(), kOut),
        tensors.output(input(), kDout), tensors.lse(input()),
        fe::graph::SDPA_backward_attributes()
            .set_name("attention backward")
            .set_causal_mask(true)
            .set_attn_scale(s.scale));
    tensors.packed(dqueries, kDqueries, s.heads)->set_output(true);
    tensors.packed(dkeys, kDkeys, s.kv_heads)->set_output(true);
    tensors.packed(dvalues, kDvalues, s.kv_heads)->set_output(true);
}

std::shared_ptr<fe::DeviceProperties> properties_of(const std::string& description) {
    auto properties = std::make_shared<fe::DeviceProperties>();
    const auto status = properties->deserialize({description.begin(), description.end()});
    if (status.is_bad()) {
        throw Error(ExitCode::internal, "cuDNN's description of a GPU: " + status.err_msg);
    }
    return properties;
}

}  // namespace

struct CudnnGraph::State {
    State(AttentionPass pass_, const AttentionShape& shape_) : pass(pass_), shape(shape_) {
        graph.set_io_data_type(fe::DataType_t::BFLOAT16)
            .set_intermediate_data_type(fe::DataType_t::FLOAT)
            .set_compute_data_type(fe::DataType_t::FLOAT);
    }
    AttentionPass pass;
    AttentionShape shape;
    fe::graph::Graph graph;
};

CudnnGraph::CudnnGraph(AttentionPass pass, const AttentionShape& shape, const CudnnTarget& target)
    : state_(std::make_unique<State>(pass, shape)) {
    fe::graph::Graph& graph = state_->graph;
    const bool described = target.handle == nullptr;
    if (described) {
        graph.set_device_properties(properties_of(target.description));
        graph.set_sm_version(target.compute_capability);
    }
    try {
        if (pass == AttentionPass::forward) {
            add_forward(graph, shape);
        } else {
            add_backward(graph, shape);
        }
        accept(graph.validate(), "checking attention");
        accept(
            described ? graph.build_operation_graph() : graph.build_operation_graph(target.handle),
            "building the graph of attention");
        accept(graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK}),
               "choosing kernels for attention");
        accept(graph.check_support(), "choosing kernels for attention");
        if (described) return;
        accept(graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE),
               "compiling kernels for attention");
        int64_t bytes = 0;
        accept(graph.get_workspace_size(bytes), "the workspace of attention");
        workspace_bytes_ = static_cast<size_t>(bytes);
    } catch (const Refused& refused) {
        refusal_ = refused.message;
    } catch (const fe::cudnnException& failure) {
        throw Error(ExitCode::internal, name_of(pass, shape) + ": " + failure.what());
    }
}

CudnnGraph::~CudnnGraph() = default;

void CudnnGraph::execute(cudnnContext* handle, const AttentionAddresses& addresses,
                         void* workspace) {
    const AttentionShape& s = state_->shape;
    const int64_t keys = static_cast<int64_t>(s.heads) * s.head_dim;
    const int64_t values = keys + static_cast<int64_t>(s.kv_heads) * s.head_dim;
    const auto at = [](void* packed, int64_t element) -> void* {
        return static_cast<bf16*>(packed) + element;
    };
    std::unordered_map<int64_t, void*> tensors{{kQueries, addresses.qkv},
                                               {kKeys, at(addresses.qkv, keys)},
                                               {kValues, at(addresses.qkv, values)},
                                               {kOut, addresses.out},
                                               {kLse, addresses.lse}};
    if (state_->pass == AttentionPass::backward) {
        tensors.insert({{kDout, addresses.dout},
                        {kDqueries, addresses.dqkv},
                        {kDkeys, at(addresses.dqkv, keys)},
                        {kDvalues, at(addresses.dqkv, values)}});
    }
    const auto status = state_->graph.execute(handle, tensors, workspace);
    if (status.is_bad()) {
        throw Error(ExitCode::internal, name_of(state_->pass, s) + ": " + status.err_msg);
    }
}

cudnnContext* make_cudnn_handle(void* stream) {
    cudnnHandle_t handle = nullptr;
    check_cudnn(cudnnCreate(&handle), "starting cuDNN");
    check_cudnn(cudnnSetStream(handle, static_cast<cudaStream_t>(stream)), "cuDNN's stream");
    return handle;
}

void destroy_cudnn_handle(cudnnContext* handle) {
    if (handle) cudnnDestroy(handle);
}

}  // namespace trireme
