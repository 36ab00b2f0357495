#pragma once

#include <string>

#include "core/dtype.h"
#include "parallel/wait_ledger.h"

namespace trireme {

// What one micro-batch costs on one virtual stage, in any unit of time. transfer: from the end of
// an action to the moment its result can be used on another rank; it keeps neither rank from work.
struct StageCosts {
    double forward = 1.0;
    double backward_input = 1.0;
    double backward_weight = 1.0;
    double transfer = 0.0;
};

struct PipelineOptions {
    // gpipe | 1f1b | interleaved | zb-h1 | zb-h2 | zb-v | zb-auto | file:PATH
    std::string schedule = "1f1b";
    int virtual_stages = 1;     // chunks on each rank
    int extra_warmup = 0;       // 1f1b: more micro-batches in flight, for each later stage
    int micro_batch_group = 0;  // interleaved: micro-batches before the next chunk; 0: stages
    int memory_cap = 0;         // zb-auto: most live activations on a rank; 0: stages
    StageCosts costs;           // zb-auto: what it finds the shortest program for
};

struct DataParallelOptions {
    int zero = 1;         // 0: all state replicated; 1: optimizer state sharded; 2: gradients
                          // too; 3: parameters too
    int shards = 0;       // among how many data ranks it is sharded; 0: all
    bool overlap = true;  // reduce gradients behind backward
    int prefetch = 2;     // with zero 3: units whose parameters are gathered ahead of their use
    double bucket_mib = 64;            // of f32 gradients that are reduced together
    DType gradient_wire = DType::f32;  // f32 or bf16: how gradients travel; they are kept in f32
    bool probe_gradients = true;       // look at them before they are summed, see FiniteProbe
};

// Makes one axis of the mesh as slow as this, for experiments and tests.
struct LinkOptions {
    MeshAxis axis = MeshAxis::data;  // tensor, context, data or pipeline
    double latency_ms = 0.0;         // of every operation
    double bandwidth_mb_per_s = 0.0;  // 10^6 bytes a second, of each rank; 0: without limit
};

}  // namespace trireme
