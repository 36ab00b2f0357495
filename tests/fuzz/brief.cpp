#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

// Runs a fuzz target without a fuzzer: its seeds, and so many inputs made of them by small changes,
// the same in every run. It tries what scripts/fuzz searches for.
//
//   fuzz_TARGET SEEDS COUNT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Random = std::mt19937_64;

constexpr std::array<std::string_view, 12> kPieces = {
    "\"",    "{",        "}",     "[", "]", ":", ",", "-1", "18446744073709551616",
    "1e999", "\xff\xfe", "\n- *a"};

void try_input(const std::string& input) {
    // A copy of its exact size, so that sanitizers see a read beyond it.
    const std::vector<uint8_t> bytes(input.begin(), input.end());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

size_t below(Random& random, size_t end) {
    return end == 0 ? 0 : random() % end;
}

void change(std::string& input, const std::vector<std::string>& seeds, Random& random) {
    const size_t at = below(random, input.size() + 1);
    const size_t length = std::min(input.size() - at, 1 + below(random, 16));
    switch (random() % 7) {
        case 0:
            if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << random() % 8);
            break;
        case 1:
            if (at < input.size()) input[at] = static_cast<char>(random());
            break;
        case 2:
            input.erase(at, length);
            break;
        case 3:
            input.insert(at, input.substr(at, length));
            break;
        case 4:
            input.insert(at, kPieces[below(random, kPieces.size())]);
            break;
        case 5:
            input.resize(at);
            break;
        default: {
            const std::string& other = seeds[below(random, seeds.size())];
            const size_t from = below(random, other.size() + 1);
            input.replace(at, length, other, from, 64);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s SEEDS COUNT\n", argv[0]);
        return 2;
    }
    std::vector<std::string> paths, seeds;
    for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
        paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    for (const std::string& path : paths) {
        std::ifstream file(path, std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        try_input(seeds.back());
    }
    if (seeds.empty()) {
        std::fprintf(stderr, "no seeds in %s\n", argv[1]);
        return 1;
    }
    Random random(1);
    for (int i = std::atoi(argv[2]); i > 0; --i) {
        std::string input = seeds[below(random, seeds.size())];
        for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
            change(input, seeds, random);
        }
        try_input(input);
    }
    return 0;
}
