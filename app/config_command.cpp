#include <cstdio>

#include "app/commands.h"
#include "app/config.h"
#include "core/error.h"

namespace trireme {

int config_command(const ConfigArguments& arguments) {
    const std::string text =
        arguments.reference
            ? configuration_reference()
            : dump_config(load_config(arguments.config, arguments.sets, arguments.world));
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    if (!written || std::fflush(stdout) != 0) {
        throw Error(ExitCode::io,
                    "the standard output takes no more, so the configuration is "
                    "incomplete; check the disk or the program it goes to");
    }
    return static_cast<int>(ExitCode::ok);
}

}  // namespace trireme
