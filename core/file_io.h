#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"

namespace trireme {

// Stands in the name of a file or folder that is not whole yet, between its final name and what
// tells its writer.
inline constexpr const char* kTemporaryMark = ".tmp-";

enum class Links { follow, refuse };

// An open file that closes itself. Every call checks the system's answer and throws Error (io)
// naming the path and the reason; a full disk also says how much was needed and how much is free.
class File {
public:
    // A regular file for reading. Throws Error (bad_data) when it is missing or not a regular file.
    // `links`: what is done where the last part of the path is a symbolic link.
    static File open(const std::string& path, Links links = Links::follow);
    // A file for writing, emptied when it exists; create_new refuses one that does.
    static File create(const std::string& path);
    static File create_new(const std::string& path);
    // An existing file, to be changed in place.
    static File change(const std::string& path);

    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File();  // closes without a check; writers call close()

    const std::string& path() const { return path_; }
    uint64_t size() const;

    void write_all(const void* data, size_t bytes);
    // At an offset, which may lie behind the end; where write_all goes on does not change.
    void write_all_at(const void* data, size_t bytes, uint64_t offset);
    // Makes a smaller file this large, with zeros. Where the file system can, the space is taken,
    // so that a disk with too little is found at once.
    void reserve(uint64_t bytes);
    // How many bytes were read: fewer than asked for only where the file ends.
    size_t read_up_to(void* to, size_t bytes, uint64_t offset) const;
    // Throws Error (bad_data) when the file ends before offset + bytes.
    void read_all(void* to, size_t bytes, uint64_t offset) const;
    void sync();  // to the disk; after an error the file must be given up, not synced again
    void close();

private:
    File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

    std::string path_;
    int descriptor_ = -1;
};

// Why an output could not be opened or made: output_busy, but io for a full or failing disk and too
// many open files, which say nothing against the path itself.
ExitCode output_error_code(int error);

// Whole content of a small file. Throws Error (bad_data) when it is larger than `limit` bytes.
std::string read_file(const std::string& path, uint64_t limit, Links links = Links::follow);

// Where the path's last name lies; "." when it is all of the path.
std::string folder_of(const std::string& path);

// Writes a file so that a crash leaves either the former content or the new one.
void replace_file(const std::string& path, const std::string& content);

// Makes a folder and those above it, durably. Throws Error as output_error_code() says.
void create_folders(const std::string& path);

// Makes names created, renamed or removed in the folder durable, if its file system can sync one.
void sync_folder(const std::string& path);

// Atomic; replaces a file or an empty folder of that name.
void rename_path(const std::string& from, const std::string& to);

// The same for a file, but replaces nothing: false when something has that name. Atomic wherever
// the file system can refuse to replace or give a file two names.
bool rename_to_free(const std::string& from, const std::string& to);

// Lets two existing paths change names in one atomic step. False where the file system cannot.
bool exchange_paths(const std::string& one, const std::string& other);

// What an ordinary user can still write where `path` is; 0 when that is not known. A hint only:
// some file systems refuse a write long before.
uint64_t free_bytes(const std::string& path) noexcept;

// Deletes a file or a folder with its contents, never following links. False when not all of it
// could be deleted; missing is fine. Does not throw.
bool remove_tree(const std::string& path) noexcept;

}  // namespace trireme
