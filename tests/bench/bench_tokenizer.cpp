// Encodes documents with one thread and prints the speed; writes the ids for comparison.
//
//   bench_tokenizer TOKENIZER TEXT LENGTHS [IDS] [REPEATS] [special]
//
// TEXT holds the documents one behind the other, LENGTHS their sizes as int64, IDS takes each
// document's number of ids as int64 and behind it the ids as int32.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/tokenizer.h"

namespace {

std::string content_of(const char* path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

// Not the time on the clock, so that other programs on the machine count less.
double processor_seconds() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

int run(int argc, char** argv) {
    using Clock = std::chrono::steady_clock;
    const std::string text = content_of(argv[2]);
    const std::string lengths = content_of(argv[3]);
    std::vector<int64_t> sizes(lengths.size() / sizeof(int64_t));
    std::copy_n(lengths.data(), sizes.size() * sizeof(int64_t),
                reinterpret_cast<char*>(sizes.data()));
    const int repeats = argc > 5 ? std::max(1, std::stoi(argv[5])) : 1;
    trireme::TokenizerOptions options;
    options.finds_special = argc > 6;

    const auto opened = Clock::now();
    const auto tokenizer = trireme::make_tokenizer(argv[1], options);
    const std::chrono::duration<double> loading = Clock::now() - opened;
    std::vector<double> rates;
    std::vector<int32_t> ids;
    std::vector<int64_t> counts;
    for (int i = 0; i < repeats; ++i) {
        ids.clear();
        counts.clear();
        const double start = processor_seconds();
        size_t at = 0;
        for (const int64_t size : sizes) {
            const size_t before = ids.size();
            tokenizer->encode(std::string_view(text).substr(at, static_cast<size_t>(size)), ids);
            counts.push_back(static_cast<int64_t>(ids.size() - before));
            at += static_cast<size_t>(size);
        }
        rates.push_back(static_cast<double>(text.size()) / 1e6 / (processor_seconds() - start));
    }
    std::sort(rates.begin(), rates.end());
    std::printf(
        "%.2f MB, %zu documents, %zu ids, loaded in %.2f s, median %.1f MB/s (%.1f - %.1f)\n",
        static_cast<double>(text.size()) / 1e6, sizes.size(), ids.size(), loading.count(),
        rates[rates.size() / 2], rates.front(), rates.back());
    if (argc > 4 && argv[4][0] != '\0') {
        std::ofstream file(argv[4], std::ios::binary);
        size_t at = 0;
        for (const int64_t count : counts) {
            file.write(reinterpret_cast<const char*>(&count), sizeof count);
            file.write(reinterpret_cast<const char*>(ids.data() + at),
                       count * static_cast<int64_t>(sizeof(int32_t)));
            at += static_cast<size_t>(count);
        }
        if (!file) return 74;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        std::fprintf(stderr,
                     "usage: bench_tokenizer TOKENIZER TEXT LENGTHS [IDS] [REPEATS] [special]\n");
        return 78;
    }
    try {
        return run(argc, argv);
    } catch (const trireme::Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return static_cast<int>(error.code());
    }
}
