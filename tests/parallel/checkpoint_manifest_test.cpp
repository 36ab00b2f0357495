#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_io.h"
#include "parallel/checkpoint_manifest.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"
#include "tests/parallel/checkpoint_support.h"

namespace trireme::test {

using Catch::Contains;
namespace fs = std::filesystem;

TEST_CASE("manifests that nobody should trust are refused", "[parallel][checkpoint]") {
    Manifest manifest;
    manifest.id = "0123";
    manifest.files.push_back({"shard.safetensors", 100, 1});
    manifest.tensors["a"] = {"a", DType::f32, {4, 3}, false, {{0, "a#0", {{0, 0}, {4, 3}}, 1}}};
    const std::string good = manifest_text(manifest);
    CHECK(parse_manifest(good, "m").tensors.size() == 1);

    // Each case edits the text and gives it a right checksum again.
    struct Case {
        const char* from;
        const char* to;
        const char* message;
    };
    const Case cases[] = {
        {"\"shard.safetensors\"", "\"../shard.safetensors\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"/etc/passwd\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"..\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"\"", "not a plain name"},
        {"\"shard.safetensors\"", "\"a\\u0000b\"", "not a plain name"},
        {"\"bytes\": 100", "\"bytes\": -100", "size is -100"},
        {"\"bytes\": 100", "\"bytes\": 1e2", "size is 100.0"},
        {"\"bytes\": 100", "\"bytes\": 99999999999999999999", "expected a whole number"},
        {"\"file\": 0", "\"file\": 1", "file index out of range"},
        {"32c\": \"00000001\"", "32c\": \"0000001\"", "not eight hexadecimal digits"},
        {"\"version\": 1", "\"version\": 2", "format version 2"},
        {"trireme-checkpoint", "trireme-something", "not a checkpoint manifest"},
        {"\"tensors\": [", "\"tensors\": 3, \"x\": [", "'tensors' is not a list"},
        {"\"dtype\": \"F32\"", "\"dtype\": \"F31\"", "unknown element type"},
        {"\"step\": 0", "\"step\": null", "step is null"},
        {"\"step\": 0", "\"step\": 0, \"step\": 0", "appears twice"},
        {"\"id\": \"0123\"", "\"id\": [[[[[[[[[[]]]]]]]]]]", "nested deeper"},
        {"\"pieces\": [", "\"pieces\": [], \"other\": [", "cover 0 of 12"},
    };
    for (const Case& c : cases) {
        std::string rest = good.substr(good.find('\n') + 1);
        const size_t at = rest.find(c.from);
        CAPTURE(c.from, c.to);
        REQUIRE(at != std::string::npos);
        rest.replace(at, std::string(c.from).size(), c.to);
        const std::string first =
            "{\"crc32c\": \"" + crc_text(crc32c(rest.data(), rest.size())) + "\",\n";
        const Error error = error_of([&] { parse_manifest(first + rest, "m"); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(c.message));
    }
    CHECK_THAT(error_of([&] { parse_manifest("", "m"); }).what(), Contains("checksum"));

    manifest.tensors["a"].global = {int64_t{1} << 40, int64_t{1} << 40};
    CHECK_THAT(error_of([&] { parse_manifest(manifest_text(manifest), "m"); }).what(),
               Contains("too large"));
}

}  // namespace trireme::test
