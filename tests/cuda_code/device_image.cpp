#include "tests/cuda_code/device_image.h"

#include <cxxabi.h>
#include <elf.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

namespace trireme {

namespace {

constexpr uint16_t kCudaMachine = 190;
constexpr uint32_t kInfoSection = 0x70000000;

// Attributes of a kernel in the sections .nv.info: a byte of format, a byte of meaning, two bytes
// of value or, in the format kSized, of the size of the value that follows.
constexpr uint8_t kSized = 4;
enum : uint8_t { kMaxThreads = 0x05, kFrameSize = 0x11, kRegisters = 0x2f };

// Lowest 12 bits of an instruction of 16 bytes. Bits 73 to 75 are the size of an access.
enum : uint32_t {
    kLoadGlobal = 0x981,
    kStoreGlobal = 0x986,
    kCopyGlobalToShared = 0xfae,
    kLoadLocal = 0x983,
    kStoreLocal = 0x387,
    kStoreLocalUniform = 0x987
};
constexpr uint32_t kEightBytes = 5, kSixteenBytes = 6;
constexpr uint32_t kTensorCoreProduct = 0x23c;
// Its lowest 9 bits; the next 3 say what the operands are.
constexpr uint32_t kFusedMultiplyAdd = 0x023;

template <typename T>
T read(std::string_view bytes, uint64_t at) {
    T value{};
    if (at <= bytes.size() && sizeof(T) <= bytes.size() - at) {
        std::memcpy(&value, bytes.data() + at, sizeof(T));
    }
    return value;
}

std::string_view part(std::string_view bytes, uint64_t at, uint64_t size) {
    if (at > bytes.size()) return {};
    return bytes.substr(at, size);
}

std::string demangled(const std::string& name) {
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> text(
        abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
    return status == 0 ? std::string(text.get()) : name;
}

// A global access of less than 8 bytes, as its instruction has it.
struct NarrowAccess {
    uint32_t opcode;
    uint32_t base_register;
    int32_t offset;
    int32_t bytes;
    uint64_t at;  // of its instruction

    NarrowAccess(std::string_view code, uint64_t place)
        : opcode(read<uint32_t>(code, place) & 0xfff),
          base_register(read<uint8_t>(code, place + 3)),
          offset(static_cast<int32_t>(read<uint32_t>(code, place + 4)) >> 8),
          bytes(1 << (size_code(code, place) / 2)),
          at(place) {}

    static uint32_t size_code(std::string_view code, uint64_t place) {
        return read<uint32_t>(code, place + 8) >> 9 & 7;
    }
    bool adjoins(const NarrowAccess& other) const {
        constexpr uint64_t kNear = 32 * 16;  // instructions; registers get other values in time
        return opcode == other.opcode && base_register == other.base_register &&
               at - other.at < kNear && std::abs(offset - other.offset) == bytes;
    }
};

void count_split_accesses(std::string_view code, KernelCode& kernel) {
    std::vector<NarrowAccess> accesses;
    for (uint64_t at = 0; at + 16 <= code.size(); at += 16) {
        const NarrowAccess access(code, at);
        const bool is_global = access.opcode == kLoadGlobal || access.opcode == kStoreGlobal;
        if (!is_global || NarrowAccess::size_code(code, at) >= kEightBytes) continue;
        for (const NarrowAccess& other : accesses) {
            if (access.adjoins(other)) {
                ++kernel.split_accesses;
                break;
            }
        }
        accesses.push_back(access);
    }
}

void count_instructions(std::string_view code, KernelCode& kernel) {
    for (uint64_t at = 0; at + 16 <= code.size(); at += 16) {
        const uint32_t opcode = read<uint32_t>(code, at) & 0xfff;
        const bool is_wide = (read<uint32_t>(code, at + 8) >> 9 & 7) == kSixteenBytes;
        ++kernel.instructions;
        if ((opcode & 0x1ff) == kFusedMultiplyAdd) ++kernel.fused_multiply_adds;
        switch (opcode) {
            case kLoadGlobal:
            case kCopyGlobalToShared:
                ++(is_wide ? kernel.global.loads_of_16_bytes : kernel.global.other_loads);
                break;
            case kStoreGlobal:
                ++(is_wide ? kernel.global.stores_of_16_bytes : kernel.global.other_stores);
                break;
            case kTensorCoreProduct:
                ++kernel.tensor_core_products;
                break;
            case kLoadLocal:
            case kStoreLocal:
            case kStoreLocalUniform:
                ++kernel.local_accesses;
                break;
            default:
                break;
        }
    }
}

// Kernels of an image by their mangled names.
class ImageReader {
public:
    explicit ImageReader(std::string_view image)
        : image_(image), header_(read<Elf64_Ehdr>(image, 0)) {
        const auto names = section(header_.e_shstrndx);
        for (int i = 0; i < header_.e_shnum; ++i) {
            const Elf64_Shdr s = section(i);
            const auto name = text(part(image_, names.sh_offset, names.sh_size), s.sh_name);
            const auto bytes = part(image_, s.sh_offset, s.sh_size);
            if (const auto kernel = after(name, ".text.")) {
                count_instructions(bytes, kernels_[*kernel]);
                count_split_accesses(bytes, kernels_[*kernel]);
            } else if (const auto user = after(name, ".nv.shared.")) {
                if (*user != "reserved.0") {
                    kernels_[*user].shared_bytes =
                        static_cast<int64_t>(s.sh_size) - kReservedShared;
                }
            } else if (const auto described = after(name, ".nv.info.")) {
                for_attributes(bytes, [&](uint8_t meaning, std::string_view value) {
                    if (meaning != kMaxThreads) return;
                    kernels_[*described].most_threads =
                        static_cast<int>(read<uint32_t>(value, 0) * read<uint32_t>(value, 4) *
                                         read<uint32_t>(value, 8));
                });
            } else if (s.sh_type == kInfoSection) {
                read_attributes_of_all(bytes, section(static_cast<int>(s.sh_link)));
            }
        }
    }

    const std::map<std::string, KernelCode>& kernels() const { return kernels_; }

private:
    Elf64_Shdr section(int index) const {
        return read<Elf64_Shdr>(
            image_, header_.e_shoff + static_cast<uint64_t>(index) * header_.e_shentsize);
    }
    static std::string text(std::string_view table, uint64_t at) {
        const auto rest = part(table, at, table.size());
        return std::string(rest.substr(0, rest.find('\0')));
    }
    static std::optional<std::string> after(const std::string& name, std::string_view prefix) {
        if (name.rfind(prefix, 0) != 0) return std::nullopt;
        return name.substr(prefix.size());
    }
    template <typename Body>
    static void for_attributes(std::string_view bytes, const Body& body) {
        for (uint64_t at = 0; at + 4 <= bytes.size();) {
            const uint64_t size =
                read<uint8_t>(bytes, at) == kSized ? read<uint16_t>(bytes, at + 2) : 0;
            body(read<uint8_t>(bytes, at + 1), part(bytes, at + 4, size));
            at += 4 + size;
        }
    }
    void read_attributes_of_all(std::string_view bytes, const Elf64_Shdr& symbols) {
        const auto names = section(static_cast<int>(symbols.sh_link));
        for_attributes(bytes, [&](uint8_t meaning, std::string_view value) {
            if (meaning != kRegisters && meaning != kFrameSize) return;
            const auto symbol = read<Elf64_Sym>(
                image_, symbols.sh_offset + read<uint32_t>(value, 0) * sizeof(Elf64_Sym));
            KernelCode& kernel =
                kernels_[text(part(image_, names.sh_offset, names.sh_size), symbol.st_name)];
            const auto number = static_cast<int>(read<uint32_t>(value, 4));
            if (meaning == kRegisters) kernel.registers = number;
            if (meaning == kFrameSize) kernel.stack_bytes = number;
        });
    }

    std::string_view image_;
    Elf64_Ehdr header_;
    std::map<std::string, KernelCode> kernels_;
};

void erase_all(std::string& text, std::string_view what) {
    for (size_t at; (at = text.find(what)) != std::string::npos;) text.erase(at, what.size());
}

}  // namespace

std::string short_name(const std::string& demangled) {
    std::string name = demangled;
    erase_all(name, "(anonymous namespace)::");
    erase_all(name, "trireme::");
    if (name.rfind("void ", 0) == 0) name.erase(0, 5);
    return name.substr(0, name.find('('));
}

std::vector<KernelCode> kernels_in(std::string_view file, int architecture) {
    std::vector<KernelCode> result;
    const std::string_view magic(ELFMAG, SELFMAG);
    for (size_t at = file.find(magic); at != std::string_view::npos;
         at = file.find(magic, at + 1)) {
        const std::string_view image = file.substr(at);
        const auto header = read<Elf64_Ehdr>(image, 0);
        // Images of CUDA 13 keep the architecture in the second byte, those before in the first.
        const bool is_ours = static_cast<int>(header.e_flags >> 8 & 0xff) == architecture ||
                             static_cast<int>(header.e_flags & 0xff) == architecture;
        if (header.e_machine != kCudaMachine || !is_ours) continue;
        const ImageReader reader(image);
        for (const auto& [mangled, code] : reader.kernels()) {
            const std::string name = demangled(mangled);
            if (code.instructions == 0 || name.find("trireme::") == std::string::npos) continue;
            if (name.find("cub::") != std::string::npos) continue;
            result.push_back(code);
            result.back().name = short_name(name);
        }
    }
    std::sort(result.begin(), result.end(),
              [](const KernelCode& a, const KernelCode& b) { return a.name < b.name; });
    return result;
}

}  // namespace trireme
