#include <cstdio>
#include <cstdlib>

#include "core/crc32c.h"
#include "core/error.h"
#include "parallel/checkpoint_manifest.h"

namespace {

void parse(const std::string& text, bool partial) {
    using namespace trireme;
    try {
        const Manifest manifest = parse_manifest(text, "manifest", partial);
        // What was accepted is written and read as the same again.
        const std::string again = manifest_text(manifest);
        if (manifest_text(parse_manifest(again, "again", partial)) != again) std::abort();
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::bad_data) std::abort();
    }
}

}  // namespace

// As it is, and behind a first line that vouches for it: otherwise the checksum hides all the rest.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    parse(text, false);
    const size_t line_end = text.find('\n');
    const std::string rest = line_end == std::string::npos ? text : text.substr(line_end + 1);
    char first[40];
    std::snprintf(first, sizeof(first), "{\"crc32c\": \"%08x\",\n",
                  trireme::crc32c(rest.data(), rest.size()));
    parse(first + rest, false);
    parse(first + rest, true);
    return 0;
}
