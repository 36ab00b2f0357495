#pragma once

#include <string>
#include <string_view>

namespace trireme {

// Valid UTF-8 text in Unicode's normal form C: the text itself where that is plain to see, else a
// copy in `normalized`.
std::string_view to_nfc(std::string_view text, std::string& normalized);

}  // namespace trireme
