#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/indexed_dataset_writer.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme {

using test::error_of;
using test::read_text;
using test::write_text;

// Documents of these lengths whose tokens count up over the whole dataset, modulo `vocab`.
inline void write_counting_dataset(const std::string& prefix, const std::vector<int32_t>& lengths,
                                   int32_t vocab = 1000000, TokenType type = TokenType::i32) {
    IndexedDatasetWriter writer(prefix, type);
    int32_t next = 0;
    for (const int32_t length : lengths) {
        std::vector<int32_t> tokens(static_cast<size_t>(length));
        for (int32_t& token : tokens) token = next++ % vocab;
        writer.add_document(tokens);
    }
    writer.finish();
}

}  // namespace trireme
