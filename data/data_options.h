#pragma once

#include <string>
#include <vector>

namespace trireme {

struct DataSourceOptions {
    std::string path;  // prefix of PREFIX.bin + PREFIX.idx
    double weight = 1.0;
};

struct DataOptions {
    std::vector<DataSourceOptions> train;
    std::vector<DataSourceOptions> valid;
    int sequence_length = 0;  // 0: the model's max_sequence_length
    std::string tokenizer = "byte";
    bool keep_documents_apart = false;  // in attention, positions and loss
    bool allow_changed = false;         // a resumed run may have other training data than before
};

}  // namespace trireme
