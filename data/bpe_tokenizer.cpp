#include "data/bpe_tokenizer.h"

#include <array>
#include <utility>

#include "core/error.h"
#include "data/nfc.h"
#include "data/utf8.h"
#include "data/word_cache.h"

namespace trireme {
namespace {

AddedTokenFinder make_finder(const BpeTokenizerParts& parts, bool normalized) {
    std::vector<AddedToken> tokens;
    std::vector<std::string> contents;
    for (const AddedToken& token : parts.added) {
        if (token.normalized != normalized) continue;
        std::string storage;
        tokens.push_back(token);
        contents.emplace_back(normalized && parts.nfc ? to_nfc(token.content, storage)
                                                      : std::string_view(token.content));
    }
    return {std::move(tokens), contents, !parts.finds_special};
}

}  // namespace

struct BpeTokenizer::Scratch {
    explicit Scratch(const std::vector<SplitPattern>& patterns) {
        for (const SplitPattern& pattern : patterns) matchers.emplace_back(pattern);
    }

    std::vector<SplitPattern::Matcher> matchers;
    // Pieces whose places in the cache are on their way from memory.
    void add(std::string_view piece) {
        WordCache::Slot* slot = nullptr;
        if (piece.size() <= WordCache::kMaxBytes) {
            slot = &cache.slot_of(piece);
            __builtin_prefetch(slot);
        }
        pending[n_pending++] = {piece, slot, false};
    }
    bool is_full() const { return n_pending == pending.size(); }

    struct Pending {
        std::string_view piece;
        WordCache::Slot* slot;  // null: too long for the cache
        bool is_missed;
    };
    static constexpr size_t kMaxPending = 128;
    std::array<Pending, kMaxPending> pending;
    size_t n_pending = 0;
    // Those of them that the cache does not hold.
    std::array<std::string_view, kMaxPending> missed;
    std::array<size_t, kMaxPending> missed_ends;
    std::vector<int32_t> missed_ids;
    WordCache cache;
    std::string fixed, normalized, prefixed;
};

// A Scratch for the time of one call.
class BpeTokenizer::Loan {
public:
    explicit Loan(const BpeTokenizer& owner) : owner_(owner) {
        {
            const std::lock_guard lock(owner_.mutex_);
            if (!owner_.free_.empty()) {
                scratch_ = std::move(owner_.free_.back());
                owner_.free_.pop_back();
                return;
            }
            // So that giving it back cannot fail.
            owner_.free_.reserve(++owner_.n_made_);
        }
        scratch_ = std::make_unique<Scratch>(owner_.patterns_);
    }
    ~Loan() {
        const std::lock_guard lock(owner_.mutex_);
        owner_.free_.push_back(std::move(scratch_));
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

    Scratch& scratch() { return *scratch_; }

private:
    const BpeTokenizer& owner_;
    std::unique_ptr<Scratch> scratch_;
};

BpeTokenizer::BpeTokenizer(BpeTokenizerParts parts)
    : parts_(std::move(parts)),
      bpe_(parts_.tokens, parts_.merges, parts_.whole_pieces),
      raw_added_(make_finder(parts_, false)),
      normalized_added_(make_finder(parts_, true)),
      is_special_(parts_.decoded.size()) {
    for (const SplitStep& step : parts_.splits) {
        patterns_.emplace_back(step.pattern, parts_.source);
        scanners_.emplace_back(step.pattern);
    }
    for (const AddedToken& token : parts_.added) {
        is_special_[static_cast<size_t>(token.id)] = token.special;
    }
    is_special_[static_cast<size_t>(parts_.end_of_text)] = true;
    parts_.tokens = {};
    parts_.merges = {};
}

BpeTokenizer::~BpeTokenizer() = default;

void BpeTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
    if (text.empty()) return;
    Loan loan(*this);
    Scratch& scratch = loan.scratch();
    scratch.n_pending = 0;  // a call that threw may have left some
    text = valid_utf8(text, scratch.fixed);
    if (raw_added_.empty()) return encode_raw(text, scratch, ids);
    raw_added_.split(
        text, [&](std::string_view between) { encode_raw(between, scratch, ids); },
        [&](int32_t id) { ids.push_back(id); });
}

void BpeTokenizer::encode_raw(std::string_view text, Scratch& scratch,
                              std::vector<int32_t>& ids) const {
    if (parts_.nfc) text = to_nfc(text, scratch.normalized);
    if (normalized_added_.empty()) return encode_normalized(text, scratch, ids);
    normalized_added_.split(
        text, [&](std::string_view between) { encode_normalized(between, scratch, ids); },
        [&](int32_t id) { ids.push_back(id); });
}

void BpeTokenizer::encode_normalized(std::string_view text, Scratch& scratch,
                                     std::vector<int32_t>& ids) const {
    if (parts_.prefix_space && text[0] != ' ') {
        scratch.prefixed.assign(" ").append(text);
        text = scratch.prefixed;
    }
    split(text, 0, scratch, ids);
}

void BpeTokenizer::split(std::string_view text, size_t step, Scratch& scratch,
                         std::vector<int32_t>& ids) const {
    if (step == patterns_.size()) {
        scratch.add(text);
        return encode_pending(scratch, ids);
    }
    const bool last = step + 1 == patterns_.size();
    const auto cut = [&](size_t begin, size_t end) {
        const std::string_view piece = text.substr(begin, end - begin);
        if (!last) return split(piece, step + 1, scratch, ids);
        scratch.add(piece);
        if (scratch.is_full()) encode_pending(scratch, ids);
    };
    const SplitScanner& scanner = scanners_[step];
    if (!scanner.empty()) {
        for (size_t at = 0; at < text.size();) {
            const size_t end = scanner.end_of_piece(text, at);
            cut(at, end);
            at = end;
        }
        if (last) encode_pending(scratch, ids);
        return;
    }
    SplitPattern::Matcher& matcher = scratch.matchers[step];
    for (size_t at = 0; at < text.size();) {
        const SplitPattern::Matcher::Range match = matcher.find(text, at);
        const bool found = match.begin != std::string_view::npos;
        const size_t gap_end = found ? match.begin : text.size();
        if (gap_end > at && !parts_.splits[step].drops_gaps) cut(at, gap_end);
        if (!found) break;
        cut(match.begin, match.end);
        at = match.end;
    }
    if (last) encode_pending(scratch, ids);
}

void BpeTokenizer::encode_pending(Scratch& scratch, std::vector<int32_t>& ids) const {
    const auto pending = std::span(scratch.pending).first(scratch.n_pending);
    scratch.n_pending = 0;
    size_t n_missed = 0;
    for (auto& [piece, slot, is_missed] : pending) {
        is_missed = slot == nullptr || !slot->holds(piece);
        if (is_missed) scratch.missed[n_missed++] = piece;
    }
    scratch.missed_ids.clear();
    bpe_.encode(std::span(scratch.missed).first(n_missed), scratch.missed_ids, scratch.missed_ends);
    size_t missed = 0;
    size_t begin = 0;
    for (const auto& [piece, slot, is_missed] : pending) {
        if (is_missed) {
            const size_t end = scratch.missed_ends[missed++];
            const auto found = std::span(scratch.missed_ids).subspan(begin, end - begin);
            ids.insert(ids.end(), found.begin(), found.end());
            if (slot != nullptr) slot->store(piece, found);
            begin = end;
        } else if (slot->holds(piece)) {
            slot->append_to(ids);
        } else {  // one of the missed has pushed it out
            bpe_.encode(piece, ids);
        }
    }
}

std::string BpeTokenizer::decode(std::span<const int32_t> ids) const {
    std::string text;
    for (const int32_t id : ids) {
        if (!has_token(id)) {
            const bool in_range = Tokenizer::has_token(id);
            throw Error(ExitCode::bad_data,
                        "cannot decode token id " + std::to_string(id) + ": " + parts_.source +
                            (in_range ? " has no token of this id"
                                      : " has ids 0 to " + std::to_string(vocab_size() - 1)));
        }
        if (!is_special_[static_cast<size_t>(id)]) text += parts_.decoded[static_cast<size_t>(id)];
    }
    return text;
}

}  // namespace trireme
