#include "app/replica_check.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "core/crc32c.h"
#include "parallel/checkpoint_manifest.h"

namespace trireme {

namespace {

constexpr size_t kMostNamed = 8;           // tensors in a message
constexpr size_t kBlockBytes = 64u << 20;  // of a tensor on the way to the host

struct Digest {
    uint64_t key = 0;  // hash of the name
    uint32_t crc = 0;
    uint32_t unused = 0;
};

// A tensor's contents by name; the same name means that the contents must be the same.
class DigestTable {
public:
    explicit DigestTable(Device& device) : device_(device) {}

    void add(const std::string& name, const Tensor& values) {
        const auto* from = static_cast<const std::byte*>(values.data);
        uint32_t crc = 0;
        if (device_.backend() == Backend::cpu) {
            crc = crc32c(from, values.bytes());
        } else {
            block_.resize(std::min(kBlockBytes, values.bytes()));
            for (size_t at = 0; at < values.bytes(); at += block_.size()) {
                const size_t bytes = std::min(block_.size(), values.bytes() - at);
                device_.copy_to_host(block_.data(), from + at, bytes);
                device_.compute().synchronize();
                crc = crc32c(block_.data(), bytes, crc);
            }
        }
        const uint64_t key = std::hash<std::string>{}(name);
        digests_.push_back({key, crc});
        names_[key] = name;
    }

    std::string bytes() const {
        return {reinterpret_cast<const char*>(digests_.data()), digests_.size() * sizeof(Digest)};
    }
    const std::string* name_of(uint64_t key) const {
        const auto place = names_.find(key);
        return place == names_.end() ? nullptr : &place->second;
    }

private:
    Device& device_;
    std::vector<Digest> digests_;
    std::map<uint64_t, std::string> names_;
    std::vector<std::byte> block_;
};

DigestTable digests_of(Engine& engine) {
    DigestTable table(engine.device());
    for (auto& chunk : engine.model().chunks()) {
        const ParameterStore& store = chunk->store();
        store.wait_parameters();
        store.for_each_held_part(
            [&](const ParameterSpec& spec, const Box& box, const Tensor& values) {
                table.add("value/" + spec.name + box_text(box), values);
            });
    }
    for (auto& optimizer : engine.optimizers()) {
        optimizer->for_each_kept_piece([&](const Optimizer::Piece& piece) {
            table.add(piece.name + box_text(piece.box), piece.values);
        });
    }
    return table;
}

// The ranks that hold each content of a tensor, by its key; only of tensors that differ.
using Holders = std::map<uint64_t, std::map<uint32_t, std::vector<int>>>;

Holders find_differences(const std::vector<std::string>& tables) {
    Holders holders;
    for (size_t rank = 0; rank < tables.size(); ++rank) {
        for (size_t at = 0; at + sizeof(Digest) <= tables[rank].size(); at += sizeof(Digest)) {
            Digest digest;
            std::memcpy(&digest, tables[rank].data() + at, sizeof(digest));
            holders[digest.key][digest.crc].push_back(static_cast<int>(rank));
        }
    }
    std::erase_if(holders, [](const auto& entry) { return entry.second.size() == 1; });
    return holders;
}

std::string ranks_text(const std::vector<int>& ranks) {
    std::string text = ranks.size() == 1 ? "rank " : "ranks ";
    for (size_t i = 0; i < ranks.size(); ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
    return text;
}

std::string describe(const std::string& name, const std::map<uint32_t, std::vector<int>>& holders) {
    const std::vector<int>* most = nullptr;
    bool is_majority = false;
    for (const auto& [crc, ranks] : holders) {
        if (most && ranks.size() < most->size()) continue;
        is_majority = !most || ranks.size() > most->size();
        most = &ranks;
    }
    std::vector<int> others;
    for (const auto& [crc, ranks] : holders) {
        if (&ranks != most || !is_majority) others.insert(others.end(), ranks.begin(), ranks.end());
    }
    std::sort(others.begin(), others.end());
    if (!is_majority) return name + ": " + ranks_text(others) + " differ from one another";
    return name + ": " + ranks_text(others) + (others.size() == 1 ? " differs" : " differ") +
           " from " + ranks_text(*most);
}

}  // namespace

std::vector<std::string> find_drifted_replicas(Engine& engine, ControlGroup& control) {
    const DigestTable table = digests_of(engine);
    const Holders holders = find_differences(control.gather(table.bytes()));

    // Names travel only when something is wrong.
    std::string keys;
    for (const auto& [key, unused] : holders) keys += std::to_string(key) + " ";
    keys = control.broadcast(std::move(keys));
    if (keys.empty()) return {};
    std::string names;
    std::istringstream asked(keys);
    for (uint64_t key = 0; asked >> key;) {
        if (const std::string* name = table.name_of(key)) {
            names += std::to_string(key) + " " + *name + "\n";
        }
    }
    std::map<uint64_t, std::string> name_of;
    for (const std::string& answer : control.gather(std::move(names))) {
        std::istringstream lines(answer);
        uint64_t key = 0;
        for (std::string name; lines >> key && std::getline(lines >> std::ws, name);) {
            name_of[key] = name;
        }
    }
    std::string text;
    for (const auto& [key, by_content] : holders) {
        text += describe(name_of[key], by_content) + "\n";
    }
    std::vector<std::string> lines;
    std::istringstream all(control.broadcast(std::move(text)));
    for (std::string line; std::getline(all, line);) lines.push_back(line);
    std::sort(lines.begin(), lines.end());
    if (lines.size() > kMostNamed) {
        const size_t more = lines.size() - kMostNamed;
        lines.resize(kMostNamed);
        lines.push_back("and " + std::to_string(more) + " more tensors");
    }
    return lines;
}

}  // namespace trireme
