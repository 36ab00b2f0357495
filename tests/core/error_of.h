#pragma once

#include "core/error.h"

namespace trireme::test {

// The Error that a call throws; one of code ok where it throws none.
template <typename Call>
Error error_of(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error;
    }
    return Error(ExitCode::ok, "no error");
}

}  // namespace trireme::test
