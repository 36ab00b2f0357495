#include "data/text_file.h"

#include <catch2/catch.hpp>

#include "tests/data/data_test_support.h"
#include "tests/data/input_support.h"
#include "tests/data/tokenizer_test_support.h"

namespace trireme {
namespace {

using Catch::Matchers::Contains;

std::string rest_of(TextFile& file, size_t at_once) {
    std::string text, chunk(at_once, '\0');
    while (const size_t n = file.read(chunk.data(), chunk.size())) text.append(chunk, 0, n);
    return text;
}

TEST_CASE("a plain file is read in parts of any size and from any byte", "[data][text]") {
    const TemporaryFolder folder;
    const std::string text = mixed_text(5, 700000);  // more than is looked at first
    const std::string path = folder / "a.txt";
    write_text(path, text);
    const auto size = static_cast<int64_t>(text.size());
    for (const size_t at_once : {size_t{1000}, size_t{262144}, size_t{1} << 20}) {
        TextFile file(path);
        CHECK(file.is_plain());
        CHECK(file.stored_size() == size);
        CHECK(file.stored_position() == 0);
        std::string first(at_once, '\0');
        first.resize(file.read(first.data(), at_once));
        CHECK(file.stored_position() == std::ssize(first));
        CHECK(first + rest_of(file, at_once) == text);
        CHECK(file.stored_position() == size);
        for (const int64_t at : {int64_t{0}, int64_t{17}, size - 1, size}) {
            REQUIRE(file.seek(at));
            CHECK(file.stored_position() == at);
            CHECK(rest_of(file, at_once) == text.substr(static_cast<size_t>(at)));
        }
    }
    CHECK(text_size(path) == size);
    // Each would begin a gzip file, were it not all.
    for (const std::string& little : {std::string("\x1f"), std::string()}) {
        write_text(path, little);
        TextFile file(path);
        CHECK(file.is_plain());
        CHECK(rest_of(file, 10) == little);
    }
}

TEST_CASE("gzip is unpacked under any name, and its name holds to it", "[data][text]") {
    const TemporaryFolder folder;
    const std::string text = mixed_text(6, 700000);
    for (const char* name : {"a.txt", "a.txt.gz", "a.txt.dz"}) {
        const std::string path = gzipped(text, folder / name);
        TextFile file(path);
        CHECK_FALSE(file.is_plain());
        CHECK_FALSE(file.seek(1));
        CHECK(rest_of(file, 300000) == text);
        CHECK(file.stored_position() == file.stored_size());
        CHECK(text_size(path) == static_cast<int64_t>(text.size()));
    }
    for (const std::string& other : {std::string("plain text"), std::string()}) {
        write_text(folder / "b.gz", other);
        const Error error = error_of([&] { TextFile file(folder / "b.gz"); });
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains("b.gz") && Contains("no gzip header"));
    }
}

TEST_CASE("the standard input loses nothing to those that only open it", "[data][text]") {
    const TemporaryFolder folder;
    const std::string text = mixed_text(7, 700000);
    write_text(folder / "a.txt", text);
    for (const std::string& path : {folder / "a.txt", gzipped(text, folder / "a.gz")}) {
        const StandardInput input(path);
        CHECK(TextFile("-").stored_size() == 0);
        TextFile file("-");
        // It may be a pipe.
        CHECK_FALSE(file.is_plain());
        CHECK_FALSE(file.seek(0));
        CHECK(rest_of(file, 1000) == text);
        CHECK(file.stored_position() == 0);
    }
}

}  // namespace
}  // namespace trireme
