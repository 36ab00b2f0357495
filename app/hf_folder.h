#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "app/hf_names.h"
#include "core/safetensors.h"

namespace trireme {

// Reads the text of a model.safetensors.index.json: the file of each tensor, a name in the same
// folder. Error (bad_data) naming `path` for anything else.
std::map<std::string, std::string> parse_hf_index(const std::string& text, const std::string& path);

// The tensors of a Hugging Face folder: model.safetensors, or the files that
// model.safetensors.index.json names. Nobody vouches for them: Error (bad_data) naming file and
// tensor for whatever is wrong, before anything is allocated by a size that a file tells.
class HfFolder {
public:
    // Reads the headers. Throws also when a file is missing or a tensor is in two of them.
    explicit HfFolder(const std::string& folder);

    // Whether there are as many tensors as layers at least, before a list of them all is made.
    void check_layers(int layers) const;
    // Whether the folder holds exactly these tensors, buffers aside, in types f32, bf16 or f16.
    // Names may lack GPT-2's prefix.
    void check_tensors(HfFamily family, const std::vector<HfTensor>& tensors, bool has_tied_head);

    // Rows [first, first + count) of a tensor that has been checked (elements of a vector), as f32.
    void read_rows(const HfTensor& tensor, int64_t first, int64_t count, float* to) const;
    // The whole tensor, turned over: [cols, rows].
    std::vector<float> read_transposed(const HfTensor& tensor) const;

private:
    struct Place {
        size_t file;
        SafetensorsEntry entry;
    };

    void add_file(const std::string& path);
    const Place* find(HfFamily family, const std::string& name) const;
    const Place& place_of(const HfTensor& tensor) const { return found_.at(tensor.name); }
    void check_tied_head(HfFamily family, const HfTensor& embedding) const;
    void read_elements(const Place& place, uint64_t first, uint64_t count, float* to) const;
    std::string where(const Place& place) const;

    std::string folder_;
    std::vector<File> files_;
    std::vector<SafetensorsHeader> headers_;
    std::map<std::string, Place> tensors_;  // by their names
    std::map<std::string, Place> found_;    // by the names that were looked for
};

}  // namespace trireme
