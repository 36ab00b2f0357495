#include "data/shared_order.h"

#include <sys/wait.h>

#include <catch2/catch.hpp>

#include "data/gpt_dataset.h"
#include "tests/data/data_test_support.h"

namespace trireme {
namespace {

const std::vector<int32_t> kLengths{5, 0, 9, 2, 30, 7, 4};

SampleOrder make() {
    return make_sample_order(kLengths, 0, 6, 40, 7);
}

template <typename T>
bool same(std::span<T> a, std::span<T> b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

bool is_right(const SampleOrder& order) {
    const SampleOrder expected = make();
    return order.n_epochs == expected.n_epochs &&
           order.separate_last_epoch == expected.separate_last_epoch &&
           same(order.documents, expected.documents) && same(order.positions, expected.positions) &&
           same(order.shuffle, expected.shuffle);
}

std::string order_file(const TemporaryFolder& folder) {
    for (const std::string& name : folder.names()) {
        if (name.starts_with("order-") && !name.ends_with(".lock")) return folder / name;
    }
    return "";
}

}  // namespace

TEST_CASE("an order from the cache is the one that was put there", "[data][order]") {
    const TemporaryFolder folder;
    int made = 0;
    const auto order_of = [&](const std::string& key, int64_t least = 0) {
        return shared_sample_order(
            folder / ".", key, 1000,
            [&] {
                ++made;
                return make();
            },
            least);
    };
    CHECK(is_right(order_of("a", 1001)));  // too small to share
    CHECK(made == 1);
    CHECK(order_file(folder).empty());
    CHECK(is_right(order_of("a")));
    CHECK(made == 2);
    CHECK(is_right(order_of("a")));
    CHECK(made == 2);
    CHECK(is_right(order_of("b")));
    CHECK(made == 3);
}

TEST_CASE("an order's file that is damaged or of another key is made again", "[data][order]") {
    const TemporaryFolder folder;
    int made = 0;
    const auto order_of = [&] {
        return shared_sample_order(
            folder / ".", "key", 1000,
            [&] {
                ++made;
                return make();
            },
            0);
    };
    order_of();
    const std::string path = order_file(folder);
    const std::string good = read_text(path);
    std::vector<std::string> damaged{good.substr(0, good.size() - 1),
                                     good.substr(0, good.size() - 64),
                                     good.substr(0, 100),
                                     std::string(),
                                     good + std::string(1, '\0'),
                                     good + std::string(64, '\0'),
                                     good + good,
                                     std::string(good.size(), '\xff')};
    // As a machine leaves it that goes down while the file is written.
    for (const size_t whole : {size_t{4096}, good.size() - 256}) {
        damaged.push_back(good.substr(0, whole) + std::string(good.size() - whole, '\0'));
    }
    for (size_t at = 0; at < good.size(); at += at < good.size() - 600 ? 59 : 3) {
        damaged.push_back(good);
        damaged.back()[at] = static_cast<char>(good[at] ^ (1 << at % 8));
    }
    for (size_t i = 0; i < damaged.size(); ++i) {
        INFO("damage " << i);
        made = 0;
        write_text(path, damaged[i]);
        CHECK(is_right(order_of()));
        CHECK(made == 1);
        CHECK(read_text(path) == good);
    }
    made = 0;
    CHECK(is_right(order_of()));
    CHECK(made == 0);
}

TEST_CASE("of processes that come together one makes the order", "[data][order]") {
    const TemporaryFolder folder;
    std::vector<pid_t> children;
    for (int i = 0; i < 6; ++i) {
        const pid_t child = ::fork();
        if (child != 0) {
            children.push_back(child);
            continue;
        }
        // Each says by a file of its own that it made the order, slowly.
        int code = 1;
        try {
            const SampleOrder order = shared_sample_order(
                folder / "cache", "key", 1000,
                [&] {
                    write_text(folder / ("made-" + std::to_string(i)), "");
                    ::usleep(50000);
                    return make();
                },
                0);
            code = is_right(order) ? 0 : 1;
        } catch (...) {
        }
        ::_exit(code);
    }
    for (const pid_t child : children) {
        int status = -1;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    CHECK(folder.names().size() == 2);  // the cache and one mark
}

TEST_CASE("an order that is damaged while in use is an error, not a crash", "[data][order]") {
    const TemporaryFolder folder;
    // So many documents that the order is shared.
    std::vector<int32_t> lengths(60000, 3);
    write_counting_dataset(folder / "d", lengths);
    const GptDatasetOptions options{.sequence_length = 4,
                                    .n_samples = 5000000,
                                    .seed = 3,
                                    .vocab_size = 1000000,
                                    .index_cache = folder / "cache"};
    std::vector<int32_t> a(4), b(4), labels(4);
    std::string path;
    {
        const GptDataset shared(DataSourceOptions{folder / "d"}, options);
        GptDatasetOptions own = options;
        own.index_cache.clear();
        const GptDataset alone(DataSourceOptions{folder / "d"}, own);
        for (int64_t i = 0; i < 5000000; i += 77777) {
            shared.read(i, a, labels);
            alone.read(i, b, labels);
            REQUIRE(a == b);
        }
        for (const auto& entry : std::filesystem::directory_iterator(folder / "cache")) {
            if (entry.path().extension() != ".lock") path = entry.path();
        }
    }
    REQUIRE(!path.empty());
    const GptDataset damaged(DataSourceOptions{folder / "d"}, options);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const std::string damage(20000, '\x77');
    for (int64_t at = 8192; at < static_cast<int64_t>(std::filesystem::file_size(path)) - 20000;
         at += 40000) {
        file.seekp(at);
        file.write(damage.data(), std::ssize(damage));
    }
    file.close();
    int errors = 0;
    for (int64_t i = 0; i < 5000000; i += 7777) {
        const Error error = error_of([&] { damaged.read(i, a, labels); });
        if (error.code() == ExitCode::ok) continue;
        REQUIRE(error.code() == ExitCode::bad_data);
        ++errors;
    }
    CHECK(errors > 100);
}

}  // namespace trireme
