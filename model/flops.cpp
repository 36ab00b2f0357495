#include "model/flops.h"

namespace trireme {

ParameterCount count_parameters(const ModelOptions& model) {
    const bool is_gpt2 = model.family == Family::gpt2;
    const int64_t hidden = model.hidden, ffn = model.ffn_hidden;
    const int64_t qkv_rows = model.query_size() + 2 * model.kv_size();
    const int64_t layer_matmul =
        qkv_rows * hidden + hidden * model.query_size() + (is_gpt2 ? 2 : 3) * hidden * ffn;
    const int64_t layer_vectors = is_gpt2 ? 4 * hidden + qkv_rows + hidden + ffn + hidden
                                          : 2 * hidden + (model.qkv_bias ? qkv_rows : 0) +
                                                (model.qk_norm ? 2 * int64_t{model.head_dim} : 0);
    const int64_t vocabulary = int64_t{model.vocab_size} * hidden;

    ParameterCount count;
    count.matmul = model.layers * layer_matmul + vocabulary;
    count.total = model.layers * (layer_matmul + layer_vectors) + vocabulary +
                  (model.tie_embeddings ? 0 : vocabulary) + (is_gpt2 ? 2 : 1) * hidden +
                  (is_gpt2 ? int64_t{model.max_sequence_length} * hidden : 0);
    return count;
}

double flops_per_token(const ModelOptions& model, int64_t sequence) {
    const double matmul = static_cast<double>(count_parameters(model).matmul);
    const double attention = static_cast<double>(model.layers) *
                             static_cast<double>(model.query_size()) *
                             static_cast<double>(sequence);
    return 6.0 * matmul + 6.0 * attention;
}

}  // namespace trireme
