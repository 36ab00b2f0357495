#include "tests/app/tiny_run.h"

#include <catch2/catch.hpp>

#include "tests/app/process_support.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

std::string tiny_run(int steps) {
    return "run: {name: tiny, output: out, steps: " + std::to_string(steps) + R"(}
device: {threads: 1}
model: {layers: 1, hidden: 16, heads: 2, vocab_size: 257, max_sequence_length: 16}
data:
  train: [{path: data/text}]
batch: {global: 4, micro: 1}
schedule: {name: constant}
checkpoint: {interval: 2}
logging: {interval: 1}
)";
}

void make_data(const std::string& folder, const std::string& name, int lines) {
    write_text(folder + "/text.txt", small_text(lines));
    const Outcome made =
        trireme_in(folder, {"prepare", "--input", "text.txt", "--output", "data/" + name});
    INFO(made.error);
    REQUIRE(made.code == 0);
}

}  // namespace trireme::test
