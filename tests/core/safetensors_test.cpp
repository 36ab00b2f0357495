#include "core/safetensors.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/core/temporary_folder.h"

using namespace trireme;
using Catch::Contains;

namespace {

std::string with_prefix(const std::string& json) {
    const uint64_t length = json.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return bytes + json;
}

// The message of the refusal, or empty when the bytes were accepted.
std::string refusal_of(const TemporaryFolder& folder, const std::string& bytes) {
    const std::string path = folder.path() + "/t.safetensors";
    remove_tree(path);  // some file systems wait for the disk when a file is written over
    File file = File::create(path);
    file.write_all(bytes.data(), bytes.size());
    file.close();
    try {
        read_safetensors_header(path);
    } catch (const Error& error) {
        CHECK(error.code() == ExitCode::bad_data);
        CHECK_THAT(error.what(), Contains(path));
        return error.what();
    }
    return "";
}

std::vector<SafetensorsEntry> some_entries() {
    return {{"w \"quoted\" \\ \xc3\xa9", DType::f32, {3, 5}, 0, 0},
            {"scalar", DType::i64, {}, 0, 0},
            {"empty", DType::f64, {0, 7}, 0, 0},
            {"half", DType::bf16, {7}, 0, 0},
            {"bytes", DType::u8, {1, 1, 3}, 0, 0},
            {"mask", DType::boolean, {2, 2}, 0, 0}};
}

}  // namespace

TEST_CASE("a written safetensors header is read back as it was", "[core][safetensors]") {
    const TemporaryFolder folder;
    std::vector<SafetensorsEntry> entries = some_entries();
    const std::map<std::string, std::string> metadata{{"format", "pt"}, {"a\n", "b\t\""}};
    const std::string head = make_safetensors_header(entries, metadata);
    CHECK(head.size() % 8 == 0);
    CHECK(entries.back().end == 60 + 8 + 0 + 14 + 3 + 4);
    const std::string path = folder.path() + "/t.safetensors";
    std::string data(entries.back().end, '\0');
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i);
    File file = File::create(path);
    file.write_all(head.data(), head.size());
    file.write_all(data.data(), data.size());
    file.close();

    const SafetensorsHeader header = read_safetensors_header(path);
    CHECK(header.metadata == metadata);
    CHECK(header.data_offset == head.size());
    CHECK(header.data_bytes == data.size());
    REQUIRE(header.entries.size() == entries.size());
    for (const SafetensorsEntry& entry : entries) {
        const SafetensorsEntry* found = header.find(entry.name);
        REQUIRE(found != nullptr);
        CHECK(found->dtype == entry.dtype);
        CHECK(found->shape == entry.shape);
        CHECK(found->begin == entry.begin);
        CHECK(found->end == entry.end);
    }
    CHECK(header.find("absent") == nullptr);
    char two[2];
    read_safetensors_bytes(path, header, *header.find("half"), 3, 2, two);
    CHECK(two[0] == data[68 + 3]);
    CHECK(two[1] == data[68 + 4]);
}

TEST_CASE("a file without tensors is a valid one", "[core][safetensors]") {
    const TemporaryFolder folder;
    CHECK(refusal_of(folder, with_prefix("{}")).empty());
    CHECK(refusal_of(folder, with_prefix("{\"__metadata__\":{}}   ")).empty());
    const std::string empty =
        R"({"a":{"dtype":"F64","shape":[9223372036854775807,0],"data_offsets":[0,0]}})";
    CHECK(refusal_of(folder, with_prefix(empty)).empty());
}

TEST_CASE("safetensors files that break a rule are refused", "[core][safetensors]") {
    struct Case {
        const char* what;
        std::string bytes;
        const char* message;
    };
    const std::string a = R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
    const std::string deep(200000, '[');
    const auto one = [](const std::string& body) { return with_prefix("{" + body + "}"); };
    const Case cases[] = {
        {"empty file", "", "0 bytes"},
        {"half a length", "\x02\0\0", "truncated"},
        {"huge length", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10), "header length"},
        {"length beyond the file", std::string("\x09\0\0\0\0\0\0\0{}", 10), "header length"},
        {"no header", with_prefix(""), "does not begin"},
        {"leading space", with_prefix(" {}"), "does not begin"},
        {"a list", with_prefix("[]"), "does not begin"},
        {"cut JSON", with_prefix("{\"a\":"), "not valid JSON at byte"},
        {"rubbish after it", with_prefix("{}x"), "not valid JSON"},
        {"bad UTF-8", one("\"\xff\":{}"), "not valid JSON"},
        {"duplicate name", one(a + "," + a) + "xx", "appears twice"},
        {"duplicate key", one(R"("a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]})"),
         "appears twice"},
        {"deep nesting", one("\"a\":" + deep), "nested deeper"},
        {"missing dtype", one(R"("a":{"shape":[2],"data_offsets":[0,2]})") + "xx", "dtype"},
        {"unknown dtype",
         one(R"("a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]})") + "xxxxxxxx",
         "C64 is not supported"},
        {"missing shape", one(R"("a":{"dtype":"U8","data_offsets":[0,2]})") + "xx", "shape"},
        {"negative size", one(R"("a":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]})") + "xx",
         "a size is -2"},
        {"fractional size", one(R"("a":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]})") + "xx",
         "a size is 2.0"},
        {"size of 2^64",
         one(R"("a":{"dtype":"U8","shape":[18446744073709551616],)"
             R"("data_offsets":[0,2]})") +
             "xx",
         "a size is"},
        {"a zero byte behind the table", with_prefix(std::string("{}\0  ", 5)), "byte of zero"},
        {"overflowing product",
         one(R"("a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})"),
         "too large"},
        {"span does not fit", one(R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,2]})") + "xx",
         "do not span"},
        {"end before begin", one(R"("a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]})") + "xx",
         "do not span"},
        {"three offsets", one(R"("a":{"dtype":"U8","shape":[2],"data_offsets":[0,1,2]})") + "xx",
         "not a pair"},
        {"hole at the start", one(R"("a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]})") + "xxx",
         "begins at data offset 1, expected 0"},
        {"hole between",
         one(a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]})") + "xxxx",
         "tensor 'b' begins at data offset 3, expected 2"},
        {"overlap", one(a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]})") + "xxx",
         "tensor 'b' begins at data offset 1, expected 2"},
        {"truncated data", one(a) + "x", "truncated"},
        {"rubbish behind the data", one(a) + "xxx", "too long"},
        {"metadata is a list", one(R"("__metadata__":[])"), "__metadata__"},
        {"metadata holds a number", one(R"("__metadata__":{"step":3})"), "'step' is not a string"},
        {"entry is a string", one(R"("a":"b")"), "expected an object"},
    };
    const TemporaryFolder folder;
    for (const Case& c : cases) {
        CAPTURE(c.what);
        CHECK_THAT(refusal_of(folder, c.bytes), Contains(c.message));
    }
    CHECK(refusal_of(folder, one(a) + "xx").empty());
}

TEST_CASE("randomly damaged safetensors headers never crash the reader", "[core][safetensors]") {
    const TemporaryFolder folder;
    std::vector<SafetensorsEntry> entries = some_entries();
    const std::string good =
        make_safetensors_header(entries, {{"k", "v"}}) + std::string(entries.back().end, 'd');
    std::mt19937 random(7);
    int refused = 0;
    for (int i = 0; i < 500; ++i) {
        std::string bad = good;
        const int hits = 1 + static_cast<int>(random() % 4);
        for (int h = 0; h < hits; ++h) bad[random() % bad.size()] = static_cast<char>(random());
        if (random() % 4 == 0) bad.resize(random() % bad.size());
        refused += refusal_of(folder, bad).empty() ? 0 : 1;
    }
    CHECK(refused > 250);
}

TEST_CASE("a header with a name twice is a programmer's mistake", "[core][safetensors]") {
    std::vector<SafetensorsEntry> twice = {{"a", DType::f32, {1}, 0, 0},
                                           {"a", DType::f32, {1}, 0, 0}};
    CHECK_THROWS_AS(make_safetensors_header(twice, {}), InternalError);
    std::vector<SafetensorsEntry> reserved = {{"__metadata__", DType::f32, {1}, 0, 0}};
    CHECK_THROWS_AS(make_safetensors_header(reserved, {}), InternalError);
}
