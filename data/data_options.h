#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/split.h"

namespace trireme {

enum class DataFormat { automatic, megatron, nanogpt, llmc };
inline constexpr std::array kDataFormats = {DataFormat::automatic, DataFormat::megatron,
                                            DataFormat::nanogpt, DataFormat::llmc};

struct DataSourceOptions {
    std::string path;  // megatron: prefix of PREFIX.bin + PREFIX.idx; others: file or pattern
    double weight = 1.0;
    DataFormat format = DataFormat::automatic;
    std::string name = {};  // in messages and records; empty: from the path
};

// What sources are called in records: the name, else the last part of the path, or all of it where
// another has the same.
std::vector<std::string> names_of(const std::vector<DataSourceOptions>& sources);

// Other weights of the training data, from one step on.
struct DataPhaseOptions {
    int64_t after_step = 0;       // the first step with them is the next
    std::vector<double> weights;  // one a training dataset; zero takes nothing from it
};

struct DataOptions {
    std::vector<DataSourceOptions> train;
    std::vector<DataPhaseOptions> phases;  // by rising step; before the first, the weights of train
    std::vector<DataSourceOptions> valid;
    std::optional<DatasetSplit> split;  // of each of train; none: all of it is for training
    int sequence_length = 0;            // 0: the model's max_sequence_length
    std::string tokenizer = "byte";
    std::string index_cache = "none";   // folder for large orders of samples; none: not shared
    bool keep_documents_apart = false;  // in attention, positions and loss
    bool allow_changed = false;         // a resumed run may have other training data than before

    // Part of `split` that training reads of each dataset.
    DatasetShare train_share() const;
    // What validation reads: valid, or a part of train where `split` has one for it.
    const std::vector<DataSourceOptions>& validation_sets() const;
    DatasetShare validation_share() const;  // of each of them
};

}  // namespace trireme
