#include "data/nfc.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "core/error.h"
#include "data/utf8.h"

namespace trireme {
namespace {

// Characters that neither decompose nor combine with one before them; far from all of these.
bool is_stable(uint32_t c) {
    return c < 0x300 || (c >= 0x400 && c <= 0x482) || (c >= 0x620 && c <= 0x64A) ||
           (c >= 0x2010 && c <= 0x2027) || (c >= 0x3001 && c <= 0x3029) ||
           (c >= 0x3041 && c <= 0x3096) || (c >= 0x309B && c <= 0x30FF) ||
           (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) ||
           (c >= 0xFF01 && c <= 0xFF9D);
}

bool is_surely_nfc(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
        if (static_cast<unsigned char>(text[at]) < 0xCC) {  // below U+0300: one or two bytes
            at += static_cast<unsigned char>(text[at]) < 0x80 ? 1 : 2;
        } else if (!is_stable(next_code_point(text, at))) {
            return false;
        }
    }
    return true;
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& normalized) {
    if (is_surely_nfc(text)) return text;
    utf8proc_uint8_t* made = nullptr;
    const utf8proc_ssize_t bytes =
        ::utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &made,
                       static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
    if (bytes == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
    TRIREME_CHECK(bytes >= 0, "valid UTF-8 to normalize");
    normalized.assign(reinterpret_cast<const char*>(made), static_cast<size_t>(bytes));
    return normalized;
}

}  // namespace trireme
