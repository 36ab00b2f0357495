#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "data/indexed_dataset.h"

namespace {

// In memory, one a process, reused.
class Folder {
public:
    Folder() {
        if (!mkdtemp(path_)) std::abort();
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    std::string prefix() const { return std::string(path_) + "/data"; }

private:
    char path_[40] = "/dev/shm/trireme-fuzz-XXXXXX";
};

const std::string& prefix() {
    static const Folder folder;
    static const std::string path = folder.prefix();
    return path;
}

void write(const std::string& path, const uint8_t* data, size_t size) {
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
}

}  // namespace

// The first two bytes say how much of the input is the index; the rest is the tokens.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    if (size < 2) return 0;
    uint16_t index_bytes = 0;
    std::memcpy(&index_bytes, data, 2);
    const size_t cut = std::min<size_t>(index_bytes, size - 2);
    write(prefix() + ".idx", data + 2, cut);
    write(prefix() + ".bin", data + 2 + cut, size - 2 - cut);
    try {
        const IndexedDataset dataset(prefix());
        std::vector<int32_t> tokens(
            static_cast<size_t>(std::min<int64_t>(dataset.n_tokens(), 1 << 16)));
        dataset.read(0, tokens, 257);
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data) std::abort();
    }
    return 0;
}
