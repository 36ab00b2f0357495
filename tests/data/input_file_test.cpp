#include "data/input_file.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "data/fingerprint.h"
#include "data/token_source.h"
#include "tests/data/data_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("a named pipe is refused as a dataset and never waited for", "[data][input]") {
    const TestFolder folder;
    for (const char* name : {"pipe", "d.bin", "d.idx"}) {
        REQUIRE(::mkfifo((folder / name).c_str(), 0600) == 0);
    }
    const std::string pipe = folder / "pipe";
    const Caught opened = caught([&] { InputFile file(pipe); });
    CHECK(opened.code == ExitCode::bad_data);
    CHECK_THAT(opened.message, Contains(pipe + " is not a regular file"));
    for (const DataSourceOptions& source : {DataSourceOptions{.path = pipe},
                                            {.path = pipe, .format = DataFormat::llmc},
                                            {.path = pipe, .format = DataFormat::nanogpt},
                                            {.path = folder / "d"}}) {
        CHECK(caught([&] { open_tokens(source); }).code == ExitCode::bad_data);
        CHECK(caught([&] { dataset_fingerprint(source); }).code == ExitCode::bad_data);
    }
}

}  // namespace
}  // namespace trireme
