#include "core/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <string>

#include "core/error.h"
#include "tests/core/error_of.h"
#include "tests/core/temporary_folder.h"

using namespace trireme;
using Catch::Contains;
using trireme::test::error_of;

TEST_CASE("what is written comes back from any offset", "[core][file]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a";
    File out = File::create(path);
    out.write_all("hello ", 6);
    out.write_all("world", 5);
    out.sync();
    out.close();

    const File in = File::open(path);
    CHECK(in.size() == 11);
    std::string text(5, '?');
    in.read_all(text.data(), 5, 6);
    CHECK(text == "world");
    CHECK(read_file(path, 11) == "hello world");
}

TEST_CASE("bytes are written at any offset of a file that is there", "[core][file]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a";
    CHECK(error_of([&] { File::change(path); }).code() == ExitCode::io);
    replace_file(path, "hello");
    File file = File::change(path);
    file.write_all_at("world", 5, 6);
    file.write_all_at("J", 1, 0);
    file.close();
    CHECK(read_file(path, 11) == std::string("Jello\0world", 11));
}

TEST_CASE("a file takes its room before it is written", "[core][file]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a";
    replace_file(path, "hello");
    File file = File::change(path);
    file.reserve(7);
    CHECK(file.size() == 7);
    file.reserve(3);
    file.close();
    CHECK(read_file(path, 7) == std::string("hello\0\0", 7));

    File full = File::create(path);
    const Error error = error_of([&] { full.reserve(uint64_t{1} << 62); });
    CHECK(error.code() == ExitCode::io);
    CHECK_THAT(error.what(), Contains(path));
}

TEST_CASE("a file takes a free name and replaces nothing", "[core][file]") {
    const TemporaryFolder folder;
    const std::string a = folder.path() + "/a", b = folder.path() + "/b";
    replace_file(a, "of a");
    CHECK(rename_to_free(a, b));
    CHECK(!std::filesystem::exists(a));
    replace_file(a, "newer");
    CHECK(!rename_to_free(a, b));
    std::filesystem::create_symlink("nowhere", folder.path() + "/link");
    CHECK(!rename_to_free(a, folder.path() + "/link"));
    CHECK(read_file(a, 10) == "newer");
    CHECK(read_file(b, 10) == "of a");
    CHECK(error_of([&] { rename_to_free(a, folder.path() + "/no/folder"); }).code() ==
          ExitCode::io);
    CHECK(error_of([&] { rename_to_free(folder.path() + "/no", b); }).code() == ExitCode::io);
}

TEST_CASE("reading past the end is bad data that names the byte", "[core][file]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a";
    replace_file(path, "12345");
    const File in = File::open(path);
    char buffer[8];
    const Error error = error_of([&] { in.read_all(buffer, 4, 3); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK_THAT(error.what(), Contains(path) && Contains("byte 5") && Contains("truncated"));
    CHECK(error_of([&] { read_file(path, 4); }).code() == ExitCode::bad_data);
}

TEST_CASE("missing files, folders, pipes and unwanted links are refused", "[core][file]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a";
    CHECK_THAT(error_of([&] { File::open(path); }).what(), Contains("does not exist"));
    CHECK(error_of([&] { File::open(folder.path()); }).code() == ExitCode::bad_data);
    REQUIRE(mkfifo((folder.path() + "/pipe").c_str(), 0600) == 0);
    CHECK_THAT(error_of([&] { File::open(folder.path() + "/pipe"); }).what(),
               Contains("not a regular file"));
    replace_file(path, "x");
    std::filesystem::create_symlink("a", folder.path() + "/link");
    CHECK(read_file(folder.path() + "/link", 1) == "x");
    CHECK_THAT(error_of([&] { File::open(folder.path() + "/link", Links::refuse); }).what(),
               Contains("symbolic link"));
    CHECK_THAT(error_of([&] { File::create_new(path); }).what(), Contains("exists"));
}

TEST_CASE("a full disk is reported with what is needed and what is free", "[core][file]") {
    File full = File::create("/dev/full");
    const std::string data(12345, 'x');
    const Error error = error_of([&] { full.write_all(data.data(), data.size()); });
    CHECK(error.code() == ExitCode::io);
    CHECK_THAT(error.what(), Contains("/dev/full") && Contains("No space left") &&
                                 Contains("12345 of 12345 bytes still needed") &&
                                 Contains("bytes free"));
}

TEST_CASE("a folder below a regular file cannot be made", "[core][file]") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a";
    create_folders(path + "/deep/deeper");
    CHECK(std::filesystem::is_directory(path + "/deep/deeper"));
    create_folders(path + "/deep");
    replace_file(folder.path() + "/file", "x");
    for (const char* below : {"/file", "/file/b", "/file/b/c"}) {
        const Error error = error_of([&] { create_folders(folder.path() + below); });
        CHECK(error.code() == ExitCode::output_busy);
        CHECK_THAT(error.what(), Contains(folder.path() + below));
    }
}

TEST_CASE("replacing a file leaves nothing else behind, also when it fails", "[core][file]") {
    const TemporaryFolder folder;
    replace_file(folder.path() + "/a", "old");
    replace_file(folder.path() + "/a", "new");
    CHECK(read_file(folder.path() + "/a", 10) == "new");
    create_folders(folder.path() + "/taken/inside");
    CHECK(error_of([&] { replace_file(folder.path() + "/taken", "x"); }).code() == ExitCode::io);
    size_t names = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
        names += entry.exists() ? 1 : 0;
    }
    CHECK(names == 2);
}

TEST_CASE("renaming and exchanging move whole folders", "[core][file]") {
    const TemporaryFolder folder;
    const std::string a = folder.path() + "/a";
    const std::string b = folder.path() + "/b";
    create_folders(a);
    create_folders(b);
    replace_file(a + "/x", "of a");
    replace_file(b + "/x", "of b");
    if (exchange_paths(a, b)) CHECK(read_file(a + "/x", 10) == "of b");
    CHECK(error_of([&] { rename_path(a, b); }).code() == ExitCode::io);
    CHECK(remove_tree(b));
    CHECK(remove_tree(b));
    rename_path(a, b);
    sync_folder(folder.path());
    CHECK(std::filesystem::exists(b + "/x"));
    CHECK(error_of([&] { rename_path(a, b); }).code() == ExitCode::io);
}

TEST_CASE("a folder that its file system cannot sync is taken as it is", "[core][file]") {
    // Linux answers so for /proc, as some network file systems do for all folders.
    const int folder = open("/proc", O_RDONLY | O_DIRECTORY);
    REQUIRE(folder >= 0);
    const int answer = fsync(folder);
    const int error = errno;
    close(folder);
    if (answer == 0 || error != EINVAL) {
        WARN("fsync of /proc is not refused here, nothing to test");
        return;
    }
    CHECK_NOTHROW(sync_folder("/proc"));
    CHECK_THAT(error_of([] { sync_folder("/proc/version"); }).what(),
               Contains("cannot open folder /proc/version"));
}
