# Writes build_commit.h (OUTPUT) for the checkout in SOURCE, only when its content changes, so that
# a build without a new commit compiles nothing again.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed OR NOT commit)
    set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once

namespace trireme {
inline constexpr char kBuildVersion[] = \"${VERSION}\";
inline constexpr char kBuildCommit[] = \"${commit}\";
}  // namespace trireme
")
