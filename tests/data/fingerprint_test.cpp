#include "data/fingerprint.h"

#include <catch2/catch.hpp>

#include "tests/data/data_test_support.h"

namespace trireme {

TEST_CASE("a dataset is recognised wherever it lies, and not when it has changed", "[data]") {
    const TemporaryFolder folder;
    std::vector<int32_t> lengths(3000, 41);
    write_counting_dataset(folder / "one", lengths);
    write_counting_dataset(folder / "same", lengths);
    lengths[7] = 42;
    write_counting_dataset(folder / "longer", lengths);
    const std::string one = dataset_fingerprint({folder / "one"});
    CHECK(dataset_fingerprint({folder / "same"}) == one);
    CHECK(dataset_fingerprint({folder / "longer"}) != one);

    // The same size: the first and the last byte, and one of the index.
    const std::string bin = read_text(folder / "one.bin");
    REQUIRE(bin.size() > 64 * 4096);
    for (const size_t at : {size_t{0}, bin.size() - 1}) {
        std::string changed = bin;
        changed[at] = static_cast<char>(changed[at] ^ 1);
        write_text(folder / "same.bin", changed);
        CHECK(dataset_fingerprint({folder / "same"}) != one);
    }
    write_text(folder / "same.bin", bin);
    CHECK(dataset_fingerprint({folder / "same"}) == one);

    // So small that the blocks overlap.
    write_counting_dataset(folder / "tiny", {3});
    CHECK(dataset_fingerprint({folder / "tiny"}).starts_with("bin 12 bytes"));
    CHECK(error_of([&] { dataset_fingerprint({folder / "none"}); }).code() == ExitCode::bad_data);
}

}  // namespace trireme
