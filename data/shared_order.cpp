#include "data/shared_order.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <vector>

#include "core/crc32c.h"
#include "core/descriptor.h"
#include "core/error.h"
#include "core/file_io.h"
#include "data/output_file.h"

namespace trireme {
namespace {

constexpr char kMark[] = "TRORDER2";
constexpr size_t kKeyBytes = 4096;

// The beginning of a file; documents, positions and shuffle follow it, each from a multiple of 64
// bytes on. Of this machine, so in its byte order.
struct Header {
    char mark[8];
    uint64_t checksum;  // CRC-32C of all that follows
    char key[kKeyBytes];
    int64_t n_epochs, separate_last_epoch;
    int64_t n_documents, n_samples;
};

constexpr int64_t kCheckedFrom = offsetof(Header, key);

int64_t aligned(int64_t bytes) {
    return (bytes + 63) / 64 * 64;
}

// Where the arrays begin, and the file's size.
struct Layout {
    explicit Layout(const Header& header)
        : positions(documents + aligned(header.n_documents * int64_t{sizeof(int32_t)})),
          shuffle(positions + aligned((header.n_samples + 1) * int64_t{sizeof(SamplePosition)})),
          end(shuffle + aligned(header.n_samples * int64_t{sizeof(uint32_t)})) {}

    int64_t documents = aligned(sizeof(Header));
    int64_t positions, shuffle, end;
};

Header header_of(const SampleOrder& order, const std::string& key) {
    Header header{};
    std::memcpy(header.mark, kMark, sizeof header.mark);
    std::memcpy(header.key, key.data(), key.size());
    header.n_epochs = order.n_epochs;
    header.separate_last_epoch = order.separate_last_epoch ? 1 : 0;
    header.n_documents = std::ssize(order.documents);
    header.n_samples = order.n_samples();
    return header;
}

void write_order(const std::string& path, const SampleOrder& order, const std::string& key) {
    Header header = header_of(order, key);
    const Layout layout(header);
    // Hands over what follows the checksum, zeros between the arrays among it.
    const auto visit = [&](const auto& take) {
        int64_t at = kCheckedFrom;
        const auto part = [&](const void* from, size_t bytes, int64_t next) {
            static constexpr char kZeros[64] = {};
            take(from, bytes);
            at += static_cast<int64_t>(bytes);
            take(kZeros, static_cast<size_t>(next - at));
            at = next;
        };
        part(reinterpret_cast<const char*>(&header) + kCheckedFrom,
             sizeof header - size_t{kCheckedFrom}, layout.documents);
        part(order.documents.data(), order.documents.size_bytes(), layout.positions);
        part(order.positions.data(), order.positions.size_bytes(), layout.shuffle);
        part(order.shuffle.data(), order.shuffle.size_bytes(), layout.end);
    };
    uint32_t checksum = 0;
    visit([&](const void* from, size_t bytes) { checksum = crc32c(from, bytes, checksum); });
    header.checksum = checksum;
    OutputFile file(path);
    file.write(&header, size_t{kCheckedFrom});
    visit([&](const void* from, size_t bytes) { file.write(from, bytes); });
    file.publish();
}

// Whether all of the file's bytes are as they were written. By reading and not by the mapping, so
// that the file does not count as this process's memory.
bool is_whole(const Descriptor& file, const Header& header, int64_t bytes) {
    std::vector<char> block(size_t{1} << 20);
    uint32_t checksum = 0;
    for (int64_t at = kCheckedFrom; at < bytes;) {
        const auto wanted = std::min(static_cast<size_t>(bytes - at), block.size());
        const ssize_t n = ::pread(file.number(), block.data(), wanted, at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        checksum = crc32c(block.data(), static_cast<size_t>(n), checksum);
        at += n;
    }
    return checksum == header.checksum;
}

class Mapping {
public:
    Mapping(const char* base, size_t bytes) : base_(base), bytes_(bytes) {}
    ~Mapping() { ::munmap(const_cast<char*>(base_), bytes_); }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    const char* at(int64_t offset) const { return base_ + offset; }

private:
    const char* base_;
    size_t bytes_;
};

// Nothing where there is no whole file of this key. Reads all of a file that it maps.
std::optional<SampleOrder> map_order(const std::string& path, const std::string& key) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!file.is_open() || ::fstat(file.number(), &status) != 0) return std::nullopt;
    if (status.st_size < static_cast<off_t>(sizeof(Header))) return std::nullopt;
    const auto bytes = static_cast<size_t>(status.st_size);
    void* const base = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.number(), 0);
    if (base == MAP_FAILED) {
        throw Error(ExitCode::io, "mapping " + path + ": " + std::strerror(errno));
    }
    const auto mapping = std::make_shared<Mapping>(static_cast<const char*>(base), bytes);
    Header header;
    std::memcpy(&header, mapping->at(0), sizeof header);
    const int64_t most = status.st_size;
    const bool is_ours = std::memcmp(header.mark, kMark, sizeof header.mark) == 0 &&
                         std::strncmp(header.key, key.c_str(), kKeyBytes) == 0 &&
                         header.n_documents > 0 && header.n_documents < most &&
                         header.n_samples >= 0 && header.n_samples < most;
    if (!is_ours) return std::nullopt;
    const Layout layout(header);
    if (layout.end != status.st_size || !is_whole(file, header, layout.end)) return std::nullopt;

    SampleOrder order;
    order.n_epochs = header.n_epochs;
    order.separate_last_epoch = header.separate_last_epoch != 0;
    order.documents = {reinterpret_cast<const int32_t*>(mapping->at(layout.documents)),
                       static_cast<size_t>(header.n_documents)};
    order.positions = {reinterpret_cast<const SamplePosition*>(mapping->at(layout.positions)),
                       static_cast<size_t>(header.n_samples + 1)};
    order.shuffle = {reinterpret_cast<const uint32_t*>(mapping->at(layout.shuffle)),
                     static_cast<size_t>(header.n_samples)};
    order.storage = mapping;
    return order;
}

}  // namespace

SampleOrder shared_sample_order(const std::string& folder, const std::string& key, int64_t bytes,
                                const std::function<SampleOrder()>& make, int64_t least_bytes) {
    if (folder.empty() || bytes < least_bytes) return make();
    TRIREME_CHECK(key.size() < kKeyBytes, "a key that the file has room for");
    try {
        create_folders(folder);
    } catch (const Error& error) {
        throw error.retold("data.index_cache: " + std::string(error.what()));
    }
    const std::string path = folder + "/order-" + crc_text(crc32c(key.data(), key.size()));
    if (auto order = map_order(path, key)) return *std::move(order);

    const std::string lock_path = path + ".lock";
    const Descriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    int rc = -1;
    while (lock.is_open() && (rc = ::flock(lock.number(), LOCK_EX)) != 0 && errno == EINTR) {
    }
    if (rc != 0) {
        throw Error(ExitCode::io, "cannot lock " + lock_path + ": " + std::strerror(errno) +
                                      "; choose another folder as data.index_cache");
    }
    if (auto order = map_order(path, key)) return *std::move(order);
    write_order(path, make(), key);
    if (auto order = map_order(path, key)) return *std::move(order);
    throw Error(ExitCode::io, path +
                                  " was changed while it was made; give each cache a folder of "
                                  "its own (data.index_cache)");
}

}  // namespace trireme
