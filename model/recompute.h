#pragma once

namespace trireme {

// What of a layer's activations is kept for backward, and what is computed again there (Korthikanti
// et al. 2022, "Reducing activation recomputation in large transformer models").
enum class Recompute {
    none,       // all is kept
    selective,  // the matmuls' outputs are kept; norms, attention's interior and the activation
                // function, which are large and cheap, are computed again
    full,       // only the layer's input is kept
};

struct RecomputeOptions {
    Recompute policy = Recompute::none;
    int layers = 0;  // of each chunk, counted from its first; the others keep all. 0: all layers

    Recompute of_layer(int layer_of_chunk) const {
        return layers == 0 || layer_of_chunk < layers ? policy : Recompute::none;
    }
};

}  // namespace trireme
