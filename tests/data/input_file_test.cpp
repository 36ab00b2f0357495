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
    const TemporaryFolder folder;
    for (const char* name : {"pipe", "d.bin", "d.idx"}) {
        REQUIRE(::mkfifo((folder / name).c_str(), 0600) == 0);
    }
    const std::string pipe = folder / "pipe";
    const Error opened = error_of([&] { InputFile file(pipe); });
    CHECK(opened.code() == ExitCode::bad_data);
    CHECK_THAT(opened.what(), Contains(pipe + " is not a regular file"));
    for (const DataSourceOptions& source : {DataSourceOptions{.path = pipe},
                                            {.path = pipe, .format = DataFormat::llmc},
                                            {.path = pipe, .format = DataFormat::nanogpt},
                                            {.path = folder / "d"}}) {
        CHECK(error_of([&] { open_tokens(source); }).code() == ExitCode::bad_data);
        CHECK(error_of([&] { dataset_fingerprint(source); }).code() == ExitCode::bad_data);
    }
}

TEST_CASE("missing files and folders are bad data", "[data][input]") {
    const TemporaryFolder folder;
    write_text(folder / "file", "x");
    for (const std::string& path : {folder / "none", folder / "file/below", folder / ""}) {
        const Error error = error_of([&] { InputFile file(path); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(path));
    }
}

TEST_CASE("a file that has become shorter is an error that names place and reason",
          "[data][input]") {
    const TemporaryFolder folder;
    const std::string path = folder / "file";
    write_text(path, "0123456789");
    const InputFile file(path);
    CHECK(file.size() == 10);
    std::string text(4, '?');
    file.read(6, text.data(), 4);
    CHECK(text == "6789");
    write_text(path, "01234567");
    const Error error = error_of([&] { file.read(6, text.data(), 4); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains(path + " ends at byte 8, expected 10 bytes") &&
                                 Contains("it had 10 when opened") &&
                                 Contains("do not change a dataset while it is in use"));
}

}  // namespace
}  // namespace trireme
