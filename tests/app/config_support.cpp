#include "tests/app/config_support.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace trireme::test {

namespace {

const char* const kSmall = R"(run: {name: small, steps: 20}
model:
  family: llama
  layers: 5
  hidden: 48
  heads: 6
  kv_heads: 2
  vocab_size: 257
  max_sequence_length: 33
data:
  train: [{path: data/train}]
batch: {global: 24, micro: 4}
)";

}  // namespace

std::string refusal(const std::string& text, const Sets& sets, std::optional<int> world) {
    try {
        parse_config(text, "c.yaml", sets, world);
        return "";
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::config);
        return error.what();
    }
}

Config small(const Sets& sets) {
    return parse_config(kSmall, "c.yaml", sets);
}

std::string refusal_of_set(const Sets& sets, std::optional<int> world) {
    return refusal(kSmall, sets, world);
}

}  // namespace trireme::test
