#pragma once

#include <string>

namespace trireme {

struct PipelineOptions {
    std::string schedule = "1f1b";  // gpipe | 1f1b
    int virtual_stages = 1;
};

struct DataParallelOptions {
    int zero = 1;         // 0: all state replicated; 1: optimizer state sharded
    bool overlap = true;  // reduce buckets behind the last micro-batch's backward
    double bucket_mb = 64;
};

}  // namespace trireme
