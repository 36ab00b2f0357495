#include "core/error.h"

#include <catch2/catch.hpp>
#include <new>
#include <stdexcept>

using namespace trireme;

namespace {

template <typename Thrown>
Error made_of(const Thrown& thrown, const std::string& doing) {
    return as_error(std::make_exception_ptr(thrown), doing);
}

}  // namespace

TEST_CASE("what is thrown becomes an error with the code that users are told", "[core][error]") {
    const Error own = made_of(Error(ExitCode::io, "the disk is full"), "while saving");
    CHECK(own.code() == ExitCode::io);
    CHECK(own.what() == std::string("the disk is full"));

    const Error memory = made_of(std::bad_alloc(), "while saving");
    CHECK(memory.code() == ExitCode::out_of_memory);
    CHECK(memory.what() == std::string("out of memory while saving"));

    const Error other = made_of(std::out_of_range("vector"), "");
    CHECK(other.code() == ExitCode::internal);
    CHECK(other.what() == std::string("internal error: vector; please report this"));
}

TEST_CASE("an error with advice of its own keeps it", "[core][error]") {
    const Error own = made_of(Error(ExitCode::out_of_memory, "no memory.", " Buy some"), "");
    CHECK(own.is_advised());
    CHECK(own.what() == std::string("no memory. Buy some"));
    CHECK(!made_of(Error(ExitCode::out_of_memory, "no memory."), "").is_advised());
}
